"""`whence demo`: what the command hands to the study, and what it prints of it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.cli.typed import Shell
from tests.run.fixtures import QUERIES
from whence.run.run import Run
from whence.trust.card import Card


@pytest.fixture
def asked(in_memory: Run, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where the demo was asked to be run; it finds a few scores there, at once."""
    places: list[Path] = []
    scored = Run(in_memory.model, in_memory.tokenizer, in_memory.train).score(QUERIES, ["random", "bm25", "repsim"])

    def run_demo(out: Path, say: Any) -> SimpleNamespace:
        places.append(out)
        say("1/4  a step")
        return SimpleNamespace(scored=scored, card=Card("ekfac", "cheap", ("q",), (), {}), report=out / "report.html",
                               seconds={"base_model": 1.2, "sweep": 3.4})

    monkeypatch.setattr("whence.cli.demo.run_demo", run_demo)
    return places


def test_it_ends_with_the_table_what_it_took_and_the_reports_path(shell: Shell, asked: list[Path],
                                                                 tmp_path: Path) -> None:
    typed = shell("demo", "--out", tmp_path / "here")
    lines = typed.out.splitlines()
    assert (typed.code, typed.err, asked) == (0, "", [tmp_path / "here"])
    assert lines[0] == "1/4  a step" and lines[-1] == f"report: {tmp_path / 'here' / 'report.html'}"
    assert "trust card of ekfac: doubt" in typed.out
    assert "took 5 s: base model 1 s, sweep 3 s" in typed.out
    assert all(method in typed.out for method in ("random", "bm25", "repsim", "chance"))


def test_json_is_one_object_and_steps_are_on_standard_error(shell: Shell, asked: list[Path]) -> None:
    typed = shell("demo", "--json")
    value = json.loads(typed.out)
    assert typed.err == "1/4  a step\n" and asked == [Path("whence-demo")]
    assert value["run"] == "whence-demo/run" and value["report"] == "whence-demo/report.html"
    assert set(value["table"]["rows"]) == {"random", "bm25", "repsim"}
    assert value["card"]["verdict"] == {"answer": "doubt", "because": ["nothing was tested"]}
    assert value["seconds"] == {"base_model": 1.2, "sweep": 3.4}
