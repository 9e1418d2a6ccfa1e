"""`whence plan`: a table or one JSON object, for a run or a model; what cannot fit is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.typed import Shell, nothing_written
from tests.run.fixtures import QUERIES, write_rows
from whence.base.errors import WhenceError
from whence.cli.plan import parse_bytes

FAST = ("--seconds", "0.05")


def test_a_run_is_planned_with_its_own_rows(shell: Shell, lora_folder: Path, tmp_path: Path) -> None:
    path = write_rows(tmp_path / "q.jsonl", QUERIES)
    with nothing_written(lora_folder):
        typed = shell("plan", lora_folder, "--queries", path, "--method", "ekfac", *FAST)
    assert typed.code == 0 and "queries: 6 examples" in typed.err
    assert typed.out.splitlines()[0].startswith("ekfac: 6 queries, 24 training rows")
    for words in ("phase", "FLOP", "time", "peak memory", "disk", "eigendecomposition", "all", "1 pass over"):
        assert words in typed.out


def test_json_is_one_object(shell: Shell, lora_folder: Path) -> None:
    found = json.loads(shell("plan", lora_folder, "--train", "10_000", "--queries", "7", "--method", "fisher", *FAST,
                             "--memory", "200GiB", "--json").out)
    assert (found["rows"], found["queries"], found["query_blocks"]) == (10000, 7, 1)
    assert [phase["name"] for phase in found["phases"]][2] == "Gram products" and found["disk"] > 10000**2 * 8


def test_a_model_is_planned_with_rows_that_are_only_counted(shell: Shell, base_folder: Path) -> None:
    found = json.loads(shell("plan", base_folder, "--train", "1000", "--queries", "10", "--length", "20", "--method",
                             "kfac(rows=-1)", *FAST, "--json").out)
    assert found["rows"] == 1000 and found["phases"][0]["rows"] == 1000


def test_mistakes(shell: Shell, base_folder: Path, lora_folder: Path) -> None:
    assert "is a model and no run" in shell.refuses("plan", base_folder, "--queries", "10")
    assert "methods; expected one" in shell.refuses("plan", lora_folder, "--queries", "1", "--method", "all")
    assert "expected a number of bytes" in shell.refuses("plan", lora_folder, "--queries", "1", "--memory", "lots")
    assert "expected at least 1" in shell.refuses("plan", lora_folder, "--queries", "0")
    refused = shell.refuses("plan", lora_folder, "--queries", "3", "--memory", "1MiB", "--method", "ekfac")
    assert "does not fit" in refused and "of memory" in refused


@pytest.mark.parametrize(("text", "value"), [("8GiB", 8 << 30), ("500MB", 500 * 10**6), ("2e9", 2 * 10**9),
                                             ("1.5 Ti", 3 << 39), ("77", 77)])
def test_bytes(text: str, value: int) -> None:
    assert parse_bytes(text) == value


@pytest.mark.parametrize("text", ["", "GiB", "-1", "3 elephants"])
def test_no_bytes(text: str) -> None:
    with pytest.raises(WhenceError, match="expected a number of bytes"):
        parse_bytes(text)
