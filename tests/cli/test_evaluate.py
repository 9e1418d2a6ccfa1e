"""`whence evaluate`: the published numbers from the published files, and its refusals."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import typer

from whence.base.errors import WhenceError
from whence.cli import main
from whence.cli.evaluate import evaluate

KEYS = {"acc", "cover", "cover_at_positives", "auprc", "roc_auc", "mrr",
        "n_queries", "n_train", "hub_top1_share"}


def run(capsys, *words: str) -> str:
    """What the verb prints when called with these words."""
    app = typer.Typer()
    app.command()(evaluate)
    app([str(w) for w in words], standalone_mode=False)
    return capsys.readouterr().out


def labels(path: Path, text: str) -> Path:
    path.write_text("".join(json.dumps({"variation": c, "kind": "k"}) + "\n" for c in text))
    return path


@pytest.fixture
def small(tmp_path):
    """Scores [3, 4] as published, with labels; training row 0 is the top row of every query."""
    (tmp_path / "s.csv").write_text("0,1,2,3\n0,-9,-1,2,3\n1,-8,5,-4,1\n2,-7,0,0,-6\n")
    return [tmp_path / "s.csv", "--train-labels", labels(tmp_path / "t.jsonl", "abab"),
            "--query-labels", labels(tmp_path / "q.jsonl", "aab"), "--label-field", "variation"]


# Acc, Cover, AUPRC, ROC-AUC, distinct top rows, hub share, as recomputed from the authors' files on the side.
PUBLISHED = [
    ("grammars_10_gmatch", "jsonl", 0.140, 0.126, 0.134, 0.538, 6, 0.51),
    ("grammars_10_inf", "jsonl", 0.390, 0.244, 0.225, 0.650, 35, 0.41),
    ("grammars_10_lissa", "jsonl", 0.150, 0.129, 0.137, 0.542, 7, 0.51),
    ("math_10_gmatch", "jsonl", 1.000, 0.845, 0.881, 0.943, 96, 0.02),
    ("math_10_inf", "jsonl", 1.000, 0.825, 0.868, 0.945, 92, 0.03),
    ("math_10_lissa", "jsonl", 1.000, 0.845, 0.881, 0.943, 96, 0.02),
    ("mixedS_50_gmatch", "labels.jsonl", 0.175, 0.5475, 0.561, 0.575, 5, 0.80),
    ("mixedS_50_inf", "labels.jsonl", 0.900, 0.614, 0.700, 0.668, 6, 0.60),
    ("mixedS_50_lissa", "labels.jsonl", 0.175, 0.5475, 0.561, 0.575, 5, 0.80),
]


@pytest.mark.parametrize(("name", "ending", "acc", "cover", "auprc", "roc_auc", "distinct", "hub"), PUBLISHED)
def test_the_published_numbers(capsys, shared_data, name, ending, acc, cover, auprc, roc_auc, distinct,
                               hub):
    folder = shared_data / "li2024"
    task = name.split("_")[0]
    got = json.loads(run(capsys, folder / "scores" / f"llama2-7b-chat.{name}.csv.gz", "--train-labels",
                         folder / f"{task}.train.{ending}", "--query-labels",
                         folder / f"{task}.test.{ending}", "--label-field", "variation",
                         "--permutations", "5", "--json"))
    assert set(got) >= KEYS
    assert got["acc"] == pytest.approx(acc, abs=5e-4)
    assert got["cover"] == pytest.approx(cover, abs=5e-4)
    assert got["cover_at_positives"] == pytest.approx(cover, abs=5e-4)
    assert got["auprc"] == pytest.approx(auprc, abs=6e-4)
    assert got["roc_auc"] == pytest.approx(roc_auc, abs=5.1e-4)
    assert got["hubs"]["distinct_top1"] == distinct
    assert got["hub_top1_share"] == pytest.approx(hub, abs=5e-3)
    assert [got["n_queries"], got["n_train"]] == ([40, 40] if task == "mixedS" else [100, 900])
    low, high = got["intervals"]["cover"]
    assert low < got["cover"] < high


def test_json_is_one_object_of_plain_numbers(capsys, small):
    got = json.loads(run(capsys, *small, "--json"))
    assert set(got) >= KEYS | {"intervals", "null", "chance", "n_scored", "notes"}
    assert got["acc"] == pytest.approx(2 / 3)
    assert got["cover_cut"] == 2
    assert got["cover"] == pytest.approx((0.5 + 1 + 0.5) / 3)
    assert (got["n_queries"], got["n_train"], got["n_classes"], got["hub_top1_share"]) == (3, 4, 2, 1.0)
    assert set(got["null"]["acc"]) == {"observed", "mean", "p95", "p_value", "permutations"}


def test_highest_turns_the_ranking_round(capsys, small):
    got = json.loads(run(capsys, *small, "--most-influential", "highest", "--json"))
    assert got["acc"] == pytest.approx(1 / 3)
    assert got["roc_auc"] == pytest.approx(1 - json.loads(run(capsys, *small, "--json"))["roc_auc"])


def test_our_own_format_and_a_matrix_give_the_same(capsys, small, tmp_path):
    values = np.array([[9.0, 1, -2, -3], [8, -5, 4, -1], [7, 0, 0, 6]])
    np.save(tmp_path / "s.npy", values)
    published = json.loads(run(capsys, *small, "--json"))
    assert json.loads(run(capsys, tmp_path / "s.npy", *small[1:], "--json")) == published


def test_the_table_shows_every_metric_chance_null_and_hubs(capsys, small):
    out = " ".join(run(capsys, *small).split())
    for text in ("cover_at_positives", "roc_auc", "chance", "null (p95)", "3/3", "cover is cut at 2",
                 "3 queries, 4 training rows, 2 classes",
                 "training row 0 comes first for 1.000 of the queries"):
        assert text in out


def test_one_class_of_queries_is_noted(capsys, small, tmp_path):
    labels(tmp_path / "q.jsonl", "aaa")
    assert "all queries have one label" in " ".join(run(capsys, *small).split())


def test_refusals_name_the_file(capsys, small, tmp_path):
    labels(tmp_path / "q.jsonl", "axb")
    with pytest.raises(WhenceError, match=r"q\.jsonl: query row 1 has label 'x', which no row of .*t\.jsonl"):
        run(capsys, *small)
    labels(tmp_path / "q.jsonl", "aa")
    with pytest.raises(WhenceError, match=r"s\.csv: scores are \[3 queries, 4 .*, but there are 2 labels"):
        run(capsys, *small)
    labels(tmp_path / "q.jsonl", "aabb")
    labels(tmp_path / "t.jsonl", "aab")
    with pytest.raises(WhenceError, match="the other way round"):
        run(capsys, *small)
    with pytest.raises(WhenceError, match=r"line 1 \(row 0\): no field 'group'; available: 'kind', 'var"):
        run(capsys, *small[:-2])


def test_a_refusal_exits_with_2_and_prints_no_traceback(monkeypatch, capsys, small):
    words = [*small[:-1], "colour"]
    monkeypatch.setattr(sys, "argv", ["whence", "evaluate", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "no field 'colour'" in err
    assert "Traceback" not in err
