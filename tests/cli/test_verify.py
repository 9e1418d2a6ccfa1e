"""`whence verify`: the card on the terminal and as JSON, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.typed import Shell
from tests.run.fixtures import QUERIES, CopyRun, write_rows
from whence.base.errors import WhenceError
from whence.cli.options import seconds_of


def test_a_card_of_a_file_and_of_stored_queries(shell: Shell, copy_run: CopyRun, tmp_path: Path) -> None:
    run, rows = copy_run("lora"), write_rows(tmp_path / "q.jsonl", QUERIES[:3])
    assert "holds 0 sets of scored queries; expected --queries FILE" in shell.refuses("verify", run)
    typed = shell("verify", run, "--queries", rows, "--level", "free")
    assert typed.code == 0 and "trust card of ekfac: doubt" in typed.out and "of 3 queries: doubt" in typed.out
    assert shell("score", run, "--queries", rows).code == 0
    value = json.loads(shell("verify", run, "--level", "free", "--json").out)
    assert [one["id"] for one in value["queries"]] == [row["id"] for row in QUERIES[:3]]
    assert value["verdict"]["answer"] != "believe" and value["level"] == "free"
    assert "--name other: no such queries" in shell.refuses("verify", run, "--name", "other")


def test_scores_of_another_tool(shell: Shell, copy_run: CopyRun, tmp_path: Path) -> None:
    run, rows, path = copy_run("lora"), write_rows(tmp_path / "q.jsonl", QUERIES[:3]), tmp_path / "theirs.npy"
    np.save(path, np.random.default_rng(0).normal(size=(3, 24)).astype(np.float32))
    value = json.loads(shell("verify", run, "--queries", rows, "--scores", path, "--level", "free", "--json").out)
    assert value["method"] == "theirs.npy"
    path.write_text("no array")
    assert "not a .npy file" in shell.refuses("verify", run, "--queries", rows, "--scores", path)
    np.save(path, np.zeros((3, 24), dtype=int))
    assert "expected floating point" in shell.refuses("verify", run, "--queries", rows, "--scores", path)


def test_what_retraining_would_cost(shell: Shell, copy_run: CopyRun, tmp_path: Path) -> None:
    run, rows = copy_run("lora"), write_rows(tmp_path / "q.jsonl", QUERIES[:3])
    typed = shell("verify", run, "--queries", rows, "--dry-run")
    assert typed.code == 0 and "retraining: " in typed.out and "± 0.2" in typed.out
    value = json.loads(shell("verify", run, "--queries", rows, "--dry-run", "--json").out)
    assert [size["members"] for size in value["sizes"]] == [8, 16, 32, 64, 128]
    assert not (run / "trust").exists()


def test_times() -> None:
    assert [seconds_of(text) for text in ("90", "90s", "10m", "1.5h")] == [90, 90, 600, 5400]
    for text in ("", "soon", "0m", "-5m", "10 d"):
        with pytest.raises(WhenceError, match="expected a time such as"):
            seconds_of(text)
