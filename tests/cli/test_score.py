"""`whence score`: what it prints and leaves; killed in the middle of the sweep and typed again, the same bits."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from tests.cli.typed import Shell
from tests.run.fixtures import PASSES, QUERIES, CopyRun, write_rows
from whence.run.stored import read_scored
from whence.sweep import sweep as sweep_room

METHODS = ("gradient-dot", "fisher(damping=0.1)", "datainf(damping=1.0)", "lissa", "repsim", "repsim(model=base)",
           "bm25")
ASKED = [word for method in METHODS for word in ("--method", method)]


@pytest.fixture
def queries_file(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return write_rows(tmp_path / "data" / "things.test.jsonl", QUERIES)


def test_it_prints_counts_a_table_and_where_the_report_is(shell: Shell, copy_run: CopyRun, queries_file: Path) -> None:
    run = copy_run("lora")
    typed = shell("score", run, "--queries", queries_file, *ASKED)
    assert (typed.code, typed.err) == (0, "")
    lines = typed.out.splitlines()
    assert lines[0].startswith("queries: 6/6 rows used; 6 examples, ") and "0 truncated" in lines[0]
    assert lines[1].startswith("exact match of the model's greedy answers: ")
    assert lines[-1] == f"report: {run / 'report.html'}"
    for name in ("gradient-dot", "datainf", "fisher", "repsim", "bm25", "chance", "acc"):
        assert name in typed.out
    assert (run / "report.html").stat().st_size < 2_000_000
    assert list(read_scored(run / "scores" / "things")[1]) == list(METHODS)


def test_json_is_one_object_and_everything_else_is_on_standard_error(shell: Shell, copy_run: CopyRun,
                                                                     queries_file: Path, tmp_path: Path) -> None:
    run, page = copy_run("full"), tmp_path / "pages" / "[a] page.html"
    typed = shell("score", run, "--queries", queries_file, "--report", page, "--json")
    value = json.loads(typed.out)
    assert typed.code == 0 and typed.err.startswith("queries: 6/6 rows used")
    assert (value["run"], value["report"]) == (str(run), str(page)) and page.exists()
    assert (value["n_queries"], value["n_train"], list(value["methods"])) == (6, 24, ["ekfac"])
    assert value["methods"]["ekfac"]["n"] == 24 and value["table"]["rows"]["ekfac"]["acc"]["value"] is not None
    assert 0 <= value["exact_match"] <= 1 and value["timings"]["sweep_seconds"] > 0
    assert shell("score", run, "--queries", queries_file, "--report", page).out.splitlines()[-1] == f"report: {page}"


def test_rows_without_groups_are_scored_and_reported_without_a_table(shell: Shell, copy_run: CopyRun,
                                                                     tmp_path: Path) -> None:
    run = copy_run("lora")
    path = write_rows(tmp_path / "bare.jsonl", [{k: row[k] for k in ("prompt", "completion")} for row in QUERIES])
    typed = shell("score", run, "--queries", path, "--method", "repsim")
    assert typed.code == 0 and "no metric table: rows or queries have no group (--columns group=COLUMN)" in typed.out
    assert (run / "report.html").exists()
    assert json.loads(shell("score", run, "--queries", path, "--method", "repsim", "--json").out)["table"] is None


# The real command, with memory for the gradients of two blocks and a sixth file of factors that is never finished.
DRIVER = """
import time
from types import SimpleNamespace
import psutil, torch
torch.set_num_threads(1)
import whence.run.factors as factors
from whence.cli import main
psutil.virtual_memory = lambda: SimpleNamespace(available=2 * MEMORY)
save, kept = factors.save_file, 0
def slow(arrays, path):
    global kept
    if kept == 5:
        path.write_bytes(b"half of a file")
        print("in the middle", flush=True)
        time.sleep(600)
    save(arrays, path)
    kept += 1
factors.save_file = slow
main()
""".replace("MEMORY", str(64 * 4 * 30 * 2))


def test_killed_and_typed_again_it_ends_in_the_same_bits(shell: Shell, copy_run: CopyRun, lora_folder: Path,
                                                         queries_file: Path, tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    run = copy_run("lora")
    words = ["score", str(run), "--queries", str(queries_file), *ASKED]
    process = subprocess.Popen([sys.executable, "-c", DRIVER, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True)
    assert process.stdout is not None and process.stderr is not None
    printed = []
    for line in process.stdout:
        printed.append(line)
        if line == "in the middle\n":
            process.send_signal(signal.SIGKILL)
            break
    assert process.wait(60) == -signal.SIGKILL, "".join(printed) + process.stderr.read()
    process.stdout.close()
    process.stderr.close()
    stored = sorted(path.name for path in run.glob("factors/**/*.safetensors") if not path.name.startswith("."))
    assert "0000.safetensors" in stored and "0007.safetensors" not in stored
    assert not (run / "scores").exists() and not (run / "report.html").exists()

    swept: list[tuple[int, int]] = []
    real = sweep_room.sweep
    for module in PASSES:
        monkeypatch.setattr(module, lambda model, examples, blocks=(), *rest, **options: (
            swept.append((len(examples), len(blocks))), real(model, examples, blocks, *rest, **options))[1])
    again = shell("score", run, "--queries", queries_file, *ASKED)
    assert again.code == 0
    # It went on, and did not begin again: from the beginning, 8 blocks for Gram matrices and 8 for gradient-dot.
    assert sum(blocks for rows, blocks in swept if rows == 24) < 16

    whole = Path(shutil.copytree(lora_folder, tmp_path / "whole"))
    assert shell("score", whole, "--queries", queries_file, *ASKED).code == 0
    resumed, uninterrupted = (read_scored(folder / "scores" / "things")[1] for folder in (run, whole))
    assert list(resumed) == list(uninterrupted) == list(METHODS)
    for method, scores in resumed.items():
        np.testing.assert_array_equal(scores.values, uninterrupted[method].values, err_msg=method)
        assert scores.facts == uninterrupted[method].facts
    for path in whole.glob("factors/**/*.safetensors"):
        assert path.read_bytes() == (run / path.relative_to(whole)).read_bytes()


def test_the_sweep_takes_its_memory_from_what_the_machine_has_free(shell: Shell, copy_run: CopyRun,
                                                                   queries_file: Path,
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    class Little:
        available = 2 * (64 * 4 * 30 - 1)  # a byte short of one block

    monkeypatch.setattr(psutil, "virtual_memory", Little)
    run = copy_run("lora")
    message = shell.refuses("score", run, "--queries", queries_file, "--method", "fisher")
    assert "the gradients of 30 rows at block" in message and "attribute fewer rows (at most 29)" in message
    Little.available = 2 * (8 * 64 * 4 - 1)  # a byte short of one query's vector over eight blocks
    message = shell.refuses("score", run, "--queries", queries_file)
    assert "the vectors of one query take" in message and "choose fewer blocks" in message
