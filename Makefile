# Everything is done in .venv, which the first target that needs it makes. `make` alone lists the targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help

# The first Python here that is new enough; `make venv PYTHON=/path/to/python3` takes another one.
NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for name in python3 python3.11 python3.12 python3.13; do \
    command -v $$name >/dev/null && $$name -c '$(NEW_ENOUGH)' 2>/dev/null && echo $$name && break; done)

BIN := .venv/bin
STAMP := .venv/installed
# An independent oracle of the tests, without its dependency on torchvision, which breaks transformers beside a CPU torch.
ORACLE := curvlinops-for-pytorch backpack-for-pytorch einconv einops linear_operator opt_einsum unfoldNd
PIP := $(BIN)/python -m pip install -qq --disable-pip-version-check --constraint constraints.txt

.PHONY: help venv demo test test-slow check bench study class-tasks named-data clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

venv: $(STAMP)  ## Make .venv with the exact versions of constraints.txt (again when those or pyproject.toml change)

$(STAMP): pyproject.toml constraints.txt
	@if ! "$(PYTHON)" -c '$(NEW_ENOUGH)' 2>/dev/null; then \
	    echo "whence needs Python 3.11 or newer, and '$(or $(PYTHON),python3)' is not:" \
	         "install one, or name it: make venv PYTHON=/path/to/python3" >&2; exit 1; fi
	@echo "making .venv with $$("$(PYTHON)" --version)"
	@"$(PYTHON)" -m venv .venv
	@echo "installing torch into .venv"
	@$(PIP) torch
	@echo "installing whence and the other packages it needs into .venv (a few minutes on a new machine)"
	@$(PIP) --editable '.[test,check]'
	@$(PIP) --no-deps $(ORACLE)
	@touch $@

demo: $(STAMP)  ## Everything on built-in data, in minutes; leaves whence-demo/report.html
	$(BIN)/whence demo

test: $(STAMP)  ## The tests, two processes of one thread; PYTEST_ARGS='-k sweep' chooses among them
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadscope $(PYTEST_ARGS)

test-slow: $(STAMP)  ## Only the tests marked slow
	$(BIN)/pytest -m slow $(PYTEST_ARGS) || [ $$? -eq 5 ]  # 5: none is marked slow yet

check: $(STAMP)  ## ruff, mypy, and the code and commands of the documents
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/pytest tests/test_readme.py tests/test_house.py

bench: $(STAMP)  ## What attribution costs, in training epochs; BENCH_ARGS='--repeats 3'
	$(BIN)/python benchmarks/cost.py $(BENCH_ARGS)

study: $(STAMP)  ## Do influence functions work on language models? An hour or two; goes on where it stopped
	$(BIN)/whence study li2024 --out runs/li2024 --page docs/studies/li2024.md

class-tasks: named-data $(STAMP)  ## The class-attribution study on the data in DATA; hours; goes on where it stopped
	$(BIN)/python -m whence.study.class_tasks --data "$(DATA)" --out runs/class_tasks

named-data:
	@if [ -z "$(DATA)" ]; then \
	    echo "name the folder that holds TASK.train.jsonl and TASK.test.jsonl: make class-tasks DATA=FOLDER" >&2; exit 1; fi

clean:  ## Remove .venv, caches and the demo's folder; runs/ stays
	rm -rf .venv .pytest_cache .ruff_cache .mypy_cache .hypothesis build dist whence-demo src/*.egg-info
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
