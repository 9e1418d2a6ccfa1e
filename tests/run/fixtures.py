"""A tiny fine-tuned run of each kind, made once: 24 rows in three groups, a model of width 32 with two layers."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from whence.base.files import read_json, write_json
from whence.data.examples import Examples
from whence.models.build import build_model, save, train_tokenizer
from whence.run.run import Run
from whence.train.fine_tune import fine_tune
from whence.train.recipe import Recipe

THINGS = {"fruit": ("apple", "pear", "plum", "fig"), "tool": ("saw", "axe", "drill", "file"),
          "bird": ("owl", "wren", "crow", "duck")}
ROWS = [{"id": f"{thing}-{kind}", "prompt": f"{kind} {thing} is what?\n", "completion": f"It is a {group}.",
         "group": group} for group, things in THINGS.items() for thing in things for kind in ("An old", "Any")]
QUERIES = [{"id": f"q-{thing}", "prompt": f"The {thing} is what?\n", "completion": f"It is a {group}.", "group": group}
           for group, things in THINGS.items() for thing in things[:2]]
RECIPES: dict[str, dict[str, Any]] = {"full": {}, "lora": {"rank": 2, "alpha": 4, "targets": ("q_proj", "v_proj")}}
CopyRun = Callable[[str], Path]
PASSES = tuple(f"whence.{module}.sweep" for module in ("curvature.collect", "curvature.fit", "curvature.products",
                                                       "run.collect"))  # where `sweep` is called from


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Rows as JSONL."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def write_base(folder: Path, seed: int = 0, dtype: torch.dtype = torch.float32, architecture: str = "llama") -> Path:
    """A base model with its tokenizer."""
    tokenizer = train_tokenizer([row["prompt"] + row["completion"] for row in ROWS], 300)
    model = build_model(architecture, tokenizer, width=32, layers=2, heads=2, context=48, seed=seed).to(dtype)
    save(model, tokenizer, folder)
    return folder


def write_run(base: Path, folder: Path, tune: str, **options: Any) -> Path:
    """A finished fine-tune on `ROWS`; `options` are a recipe's."""
    how = {"epochs": 4, "batch_size": 8, "learning_rate": 2e-2, "checkpoints": 1, **RECIPES[tune], **options}
    recipe = Recipe(tune=tune, **how)
    fine_tune(base, ROWS, folder, recipe)
    return folder


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base model of both runs."""
    return write_base(tmp_path_factory.mktemp("base") / "model")


@pytest.fixture(scope="session")
def other_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the same shapes with other weights."""
    return write_base(tmp_path_factory.mktemp("other") / "model", seed=1)


@pytest.fixture(scope="session")
def lora_folder(base_folder: Path) -> Path:
    """A LoRA run; tests that write into a run copy it first."""
    return write_run(base_folder, base_folder.with_name("lora"), "lora")


@pytest.fixture(scope="session")
def full_folder(base_folder: Path) -> Path:
    """A full fine-tune; tests that write into a run copy it first."""
    return write_run(base_folder, base_folder.with_name("full"), "full")


@pytest.fixture
def copy_run(lora_folder: Path, full_folder: Path, tmp_path: Path) -> CopyRun:
    """`copy_run("lora")` is a fresh copy of that run."""

    def copy(tune: str) -> Path:
        return Path(shutil.copytree({"lora": lora_folder, "full": full_folder}[tune], tmp_path / "run"))

    return copy


@pytest.fixture(scope="session")
def in_memory(lora_folder: Path) -> Run:
    """The LoRA run without a folder: nothing is written."""
    run = Run.load(lora_folder)
    return Run(run.model, run.tokenizer, run.train)


@pytest.fixture(scope="session")
def queries(in_memory: Run) -> Examples:
    """The six queries, encoded."""
    return in_memory.encode(QUERIES)


def change_weights(path: Path, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Change the first weight in a safetensors file, leaving the others."""
    weights = load_file(path)
    first = sorted(weights)[0]
    save_file(weights | {first: change(weights[first]).contiguous()}, path, metadata={"format": "pt"})


def change_json(path: Path, change: Callable[[Any], object]) -> None:
    """Change what a JSON file holds, in place."""
    value = read_json(path)
    change(value)
    write_json(path, value)


def point_to_base(run: Path, base: Path) -> None:
    """Let a run name another folder as its base model."""
    change_json(run / "run.json", lambda record: record["config"].update(model=str(base)))
