"""`whence study`: what would be made, what is made, and the authors' scores as published."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from whence.base.errors import WhenceError
from whence.cli.app import app
from whence.study.table import read_tidy

FILE = {
    "study": "tiny", "seeds": [0, 1],
    "bases": {"b": {"steps": 2, "vocabulary": 300, "context": 128, "phrases": 1}},
    "models": {"m": {"architecture": "gpt2", "width": 16, "layers": 1, "heads": 2}},
    "tasks": {"t": {"base": "b", "make": "marked", "n_marked": 3, "n_normal": 3, "n_queries": 2}},
    "tunes": {"full": {"tune": "full", "epochs": 1, "batch_size": 4}}, "trainings": {"plain": {}},
    "scorings": {"plain": {}},
    "experiments": {"e": {"tasks": ["t"], "models": ["m"], "tunes": ["full"], "trainings": ["plain"],
                          "scorings": ["plain"], "methods": ["tfidf", "gradient-dot"]}}}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(FILE))
    return path


def run(*words: object) -> str:
    done = CliRunner().invoke(app, ["study", *map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_a_dry_run_prints_cells_and_cost_and_makes_nothing(file: Path, tmp_path: Path) -> None:
    told = json.loads(run(file, "--out", tmp_path / "out", "--dry-run", "--json"))
    assert {kind: cost["cells"] for kind, cost in told["cost"].items()} == {"base": 1, "fine-tune": 2, "scores": 2}
    assert all(cost["seconds"] > 0 and cost["done"] == 0 for cost in told["cost"].values())
    assert [cell["seed"] for cell in told["cells"]] == [0, 1]
    assert not (tmp_path / "out").exists()
    assert "there already" in run("li2024", "--out", tmp_path / "out", "--dry-run")


def test_a_study_is_made_in_processes_and_goes_on(file: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    told = json.loads(run(file, "--out", out, "--seeds", 1, "--workers", 1, "--json"))
    table = read_tidy(out / "table.parquet")
    assert len(table) == told["numbers"] and set(table["seed"]) == {0}
    assert set(table["method"]) == {"tfidf", "gradient-dot"} and {"acc", "auprc"} <= set(table["metric"])
    marks = {path: path.stat().st_mtime_ns for path in (out / "cells").glob("*/rows.parquet")}
    again = json.loads(run(file, "--out", out, "--seeds", 1, "--workers", 1, "--json"))
    assert again["numbers"] == told["numbers"]
    assert marks == {path: path.stat().st_mtime_ns for path in (out / "cells").glob("*/rows.parquet")}


def test_mistakes_are_named(tmp_path: Path) -> None:
    with pytest.raises(WhenceError, match="name their folder with --data"):
        run("li2024", "--as-published")
    with pytest.raises(WhenceError, match="expected li2024, or the path of a YAML file"):
        run("li2023", "--dry-run")
    with pytest.raises(WhenceError, match="has no folder 'scores'"):
        run("li2024", "--as-published", "--data", tmp_path)


def test_the_authors_scores_as_published(shared_data: Path) -> None:
    told = json.loads(run("li2024", "--as-published", "--data", shared_data / "li2024", "--json"))
    assert told["differences"] == [] and len(told["rows"]) == 9
    ratios = {ratio["task"]: ratio["median"] for ratio in told["ratios"]}
    assert abs(ratios["math"] - 4) < 0.001 and abs(ratios["mixedS"] - 4) < 0.01
    assert "agree with the recomputed ones" in run("li2024", "--as-published", "--data", shared_data / "li2024")
