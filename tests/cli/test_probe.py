"""`whence probe`: the table of partitions on the terminal and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.typed import Shell, nothing_written
from tests.run.fixtures import CopyRun, write_rows
from whence.run.probe import read_suite
from whence.run.run import Run

ROWS = [{"name": "owl", "prompt": "The owl is", "completion": "a bird.", "relation": "is", "irrelevant": ["An axe."]},
        {"prompt": "The saw is", "completion": "a tool.", "irrelevant": []}]


def test_it_shows_the_partitions_and_the_ratio(shell: Shell, copy_run: CopyRun, tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")  # no cell is folded
    run, rows = copy_run("lora"), write_rows(tmp_path / "p.jsonl", ROWS)
    typed = shell("probe", run, "--rows", rows, "--method", "gradient-dot")
    probed = Run.load(run).probe(read_suite(ROWS), "gradient-dot")
    assert (typed.code, typed.err) == (0, "")
    for partition in probed.table.partitions:
        assert partition in typed.out
    assert f"{len(probed.suite.probes)} probes of 2 queries, gradient-dot" in typed.out
    value = json.loads(shell("probe", run, "--rows", rows, "--method", "gradient-dot", "--json").out)
    assert value == {"run": str(run), **json.loads(json.dumps(probed.to_json()))}


def test_the_ready_suite_is_the_default_and_mistakes_are_named(shell: Shell, copy_run: CopyRun, tmp_path: Path) -> None:
    run, rows = copy_run("lora"), write_rows(tmp_path / "p.jsonl", ROWS)
    with nothing_written(tmp_path):
        message = shell.refuses("probe", run)  # whose model is too small for whole sentences
        assert "probe 0: lighthouse, paraphrase" in message and "but the model has 48 positions" in message
        assert shell.refuses("probe", run, "--suite", "word-order") == message
        assert "expected word-order; a file of your own goes with --rows" in shell.refuses("probe", run, "--suite", "x")
        assert "expected one of them" in shell.refuses("probe", run, "--suite", "word-order", "--rows", rows)
        assert "has no score of a probe" in shell.refuses("probe", run, "--rows", rows, "--method", "repsim")
