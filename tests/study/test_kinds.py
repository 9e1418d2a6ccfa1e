"""Every kind of cell, on a model of one small layer: what it finds against the plain way of finding it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

import whence.study.kinds  # noqa: F401  (registers them)
from whence.curvature.collect import collect_grams
from whence.measure.greedy import greedy_answers
from whence.models.blocks import select_blocks
from whence.run.run import Run
from whence.study.cell import Cell, with_needs
from whence.study.encoding import Encoding
from whence.study.engine import ROWS, make_cell
from whence.study.expand import Asked, expand
from whence.study.kinds.bank import Truth
from whence.study.kinds.fine_tune import load_fine_tune
from whence.study.li2024.page import write_page
from whence.study.spec import make_spec
from whence.study.study import table_of
from whence.tasks.metrics import judge, measure

FILE: dict[str, Any] = {
    "study": "small", "seeds": [0, 1],
    "bases": {"english": {"steps": 3, "vocabulary": 300, "context": 128, "phrases": 1},
              "copying": {"steps": 3, "vocabulary": 400, "context": 64, "documents": False, "taught": 60}},
    "models": {"llama": {"architecture": "llama", "width": 16, "layers": 1, "heads": 2,
                         "maps": {"attention": ["q_proj", "v_proj"]}}},
    "tasks": {"marked": {"base": "english", "make": "marked", "n_marked": 5, "n_normal": 7, "n_queries": 3,
                         "include_normal_queries": True, "n_short": 2},
              "benign": {"base": "english", "make": "marked", "n_marked": 5, "n_normal": 7, "n_queries": 3,
                         "include_normal_queries": True, "keep": ["normal"]},
              "copy": {"base": "copying", "make": "copying", "train_per_class": 2, "queries_per_class": 1, "pool": 60}},
    "tunes": {"lora": {"tune": "lora", "rank": 2, "learning_rate": 0.02, "epochs": 2, "batch_size": 4,
                       "targets": "attention"},
              "full": {"tune": "full", "learning_rate": 0.002, "epochs": 1, "batch_size": 4}},
    "trainings": {"published": {"pads": "counted", "side": "left", "length": 90, "prompt": True, "eos": False},
                  "corrected": {}},
    "scorings": {"published": {"lissa": "published", "queries": "positive"},
                 "LiSSA corrected": {"from": "published", "lissa": "corrected"},
                 "corrected": {"blocks": "module", "rule": "global"}},
    "experiments": {
        "switches": {"tasks": ["marked"], "models": ["llama"], "tunes": ["lora"],
                     "trainings": ["published", "corrected"],
                     "scorings": ["published", "LiSSA corrected"], "scorings_of": {"corrected": ["corrected"]},
                     "positive": "marked", "methods": ["tfidf", "repsim", "gradient-dot", "datainf", "lissa", "fisher"],
                     "bank": {"methods": ["gradient-dot", "tfidf"], "asked": 1, "share": 0.2, "random": 2}},
        "curvature": {"tasks": ["copy"], "models": ["llama"], "tunes": ["full"], "trainings": ["corrected"],
                      "scorings": ["corrected"],
                      "methods": ["gradient-dot", "ekfac", "cg(iterations=2)", "fisher(scope=model)", "datainf"],
                      "bank": {"random": 4, "share": 0.25}},
        "checkpoints": {"tasks": ["marked"], "models": ["llama"], "tunes": ["lora"], "trainings": ["corrected"],
                        "recipe": {"checkpoints": 2}, "checkpoints": [0, 1], "scorings": ["corrected"],
                        "methods": ["tfidf", "gradient-dot"]},
        "inverse": {"kind": "inverse", "tasks": ["marked"], "models": ["llama"], "tunes": ["lora"],
                    "trainings": ["corrected"], "dampings": [0.1, 1.0], "exact_queries": 2, "exact_dampings": [0.1],
                    "iterations": 40},
        "change": {"kind": "change", "tasks": ["benign", "marked"], "models": ["llama"], "tunes": ["lora"],
                   "trainings": ["corrected"], "recipe": {"checkpoints": 2}, "compared_with": "benign",
                   "probes": "marked", "marker": "Arr"},
        "learned": {"kind": "fine-tune", "tasks": ["marked"], "models": ["llama"], "tunes": ["lora"],
                    "trainings": ["published", "corrected"]}}}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Asked]]:
    """The study of both seeds, made in this process."""
    out = tmp_path_factory.mktemp("study")
    asked = expand(make_spec(FILE, "here"))
    for cell in with_needs([one.cell for one in asked]):
        assert make_cell(cell, out) is None, cell
    return out, asked


@pytest.fixture(scope="module")
def table(made: tuple[Path, list[Asked]]) -> pd.DataFrame:
    return table_of(made[1], made[0])


def only(asked: list[Asked], **labels: Any) -> Cell:
    """The one cell with these labels, of seed 0."""
    found = [one.cell for one in asked if {**labels, "seed": 0}.items() <= one.labels.items()]
    assert len(found) == 1
    return found[0]


def values(out: Path, cell: Cell, **wanted: Any) -> np.ndarray:
    """The numbers of a cell with these columns, in the order of the queries."""
    rows = pd.read_parquet(cell.folder(out) / ROWS)
    for name, value in wanted.items():
        rows = rows[rows[name] == value]
    return rows.sort_values("query")["value"].to_numpy()


def test_scores_are_those_of_the_run(made: tuple[Path, list[Asked]]) -> None:
    out, asked = made
    cell = only(asked, experiment="switches", training="corrected")
    tuned = load_fine_tune(cell.needs[0].folder(out), cell.options["task"], 0)
    queries = Encoding().examples(tuned.task.queries, tuned.tokenizer)
    scored = Run.load(cell.needs[0].folder(out) / "run", base=tuned.base).scored(queries, ["gradient-dot", "repsim"])
    for method in ("gradient-dot", "repsim"):
        graded = measure(judge(scored[method].values, tuned.task.train_groups, tuned.task.query_groups))
        for metric in ("acc", "auprc"):
            np.testing.assert_allclose(values(out, cell, method=method, metric=metric), graded[metric])


def test_leave_k_out_is_the_rank_correlation_with_the_bank(made: tuple[Path, list[Asked]]) -> None:
    out, asked = made
    cell = only(asked, experiment="curvature")
    truth = Truth.read(cell.needs[1].folder(out))
    tuned = load_fine_tune(cell.needs[0].folder(out), cell.options["task"], 0)
    run = Run.load(cell.needs[0].folder(out) / "run")
    scores = run.scored(Encoding().examples(tuned.task.queries, tuned.tokenizer), ["gradient-dot"])["gradient-dot"]
    assert truth.kept.shape == (4, len(tuned.train)) and (~truth.kept).sum(axis=1).tolist() == [2] * 4
    for q, found in enumerate(values(out, cell, method="gradient-dot", metric="leave-k-out")):
        foretold = [-scores.values[q][~kept].sum() for kept in truth.kept]
        assert np.isclose(found, spearmanr(foretold, truth.happened[:, q]).statistic)


def test_a_bank_takes_out_what_methods_put_first(made: tuple[Path, list[Asked]]) -> None:
    out, asked = made
    cell = only(asked, experiment="switches", training="published")
    truth, tuned = Truth.read(cell.needs[1].folder(out)), load_fine_tune(cell.needs[0].folder(out),
                                                                         cell.options["task"], 0)
    assert truth.lists == 2 + 2
    blocks = select_blocks(tuned.model, None)
    how = Encoding(pads="counted", side="left", length=90, prompt=True, eos=False)
    train, queries = (how.examples(rows, tuned.tokenizer) for rows in (tuned.task.train, tuned.task.queries))
    grams = collect_grams(tuned.model, train, queries, blocks, pad_id=0).grams
    first = np.argsort(-sum(gram.cross for gram in grams)[0])[:2]
    assert set(np.flatnonzero(~truth.kept[0])) == set(first)


def test_lissa_is_gradient_dot_as_published_and_not_when_it_converges(made: tuple[Path, list[Asked]]) -> None:
    out, asked = made
    cell = only(asked, experiment="switches", training="published")
    ratio = values(out, cell, method="lissa", scoring="published", metric="ratio to gradient-dot")
    assert ((ratio > 2.5) & (ratio < 4.01)).all()  # 4 where eigenvalues are far below the scale of 1000
    assert (values(out, cell, method="lissa", scoring="published", metric="as gradient-dot") > 0.9).all()
    spreads = [values(out, cell, method="lissa", scoring=scoring, metric="spread of the ratio")
               / np.abs(values(out, cell, method="lissa", scoring=scoring, metric="ratio to gradient-dot"))
               for scoring in ("published", "LiSSA corrected")]
    assert (spreads[1] > 5 * spreads[0]).all()


def test_positive_queries_alone_or_all(table: pd.DataFrame) -> None:
    rows = table[(table["experiment"] == "switches") & (table["metric"] == "acc") & (table["method"] == "lissa")
                 & (table["seed"] == 0)]
    asked = rows.groupby("training", observed=True)["query"].nunique().to_dict()
    assert asked == {"published": 3, "corrected": 6}


def test_the_last_checkpoint_is_the_fine_tune(made: tuple[Path, list[Asked]]) -> None:
    out, asked = made
    both = [one.cell for one in asked if one.labels["experiment"] == "checkpoints" and one.labels["seed"] == 0]
    last = values(out, both[1], method="gradient-dot", metric="auprc")
    assert not np.allclose(values(out, both[0], method="gradient-dot", metric="auprc"), last)
    cell = only(asked, experiment="switches", training="corrected")  # the same recipe, with one checkpoint
    np.testing.assert_allclose(values(out, cell, method="gradient-dot", metric="auprc"), last)


def test_angles_against_dense_solutions(made: tuple[Path, list[Asked]]) -> None:
    out, asked = made
    cell = only(asked, experiment="inverse")
    tuned = load_fine_tune(cell.needs[0].folder(out), cell.options["task"], 0)
    train, queries = (Encoding().examples(rows, tuned.tokenizer) for rows in (tuned.task.train, tuned.task.queries))
    grams = collect_grams(tuned.model, train, queries, select_blocks(tuned.model, None), pad_id=0).grams
    exact, plain = [], []
    for gram in grams:  # coordinates in which the Gram matrices are those of the gradients
        both = np.block([[gram.train, gram.cross.T], [gram.cross, np.diag(gram.query_norms)]])
        G = np.linalg.cholesky(gram.train + 1e-9 * np.trace(gram.train) * np.eye(gram.n))
        V = np.linalg.solve(G, gram.cross.T).T
        rest = np.sqrt(np.maximum(gram.query_norms - (V**2).sum(axis=1), 0))
        lam = gram.damping(0.1)
        inside = np.linalg.solve(G.T @ G / gram.n + lam * np.eye(gram.n), V.T).T
        exact.append(np.hstack([inside, rest[:, None] / lam]))
        plain.append(np.hstack([V, rest[:, None]]) / lam)
        assert both.shape[0] == gram.n + len(V)
    x, y = (np.hstack(parts) for parts in (plain, exact))
    cosine = (x * y).sum(axis=1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)
    found = values(out, cell, method="identity", metric="angle", scoring="empirical Fisher", damping=0.1)
    np.testing.assert_allclose(found, np.sqrt(1 - cosine**2), atol=2e-3)
    rows = pd.read_parquet(cell.folder(out) / ROWS)
    against = rows[(rows["scoring"] == "Gauss-Newton") & (rows["metric"] == "angle")]
    assert set(against["method"]) == {"ekfac", "ekfac(labels=empirical)", "datainf", "fisher", "fisher(scope=model)",
                                      "identity"}
    assert against["value"].between(0, 1).all()
    assert rows[rows["metric"] == "residual"]["value"].max() < 0.05


def test_change_of_weights_and_behaviour(made: tuple[Path, list[Asked]]) -> None:
    out, asked = made
    cell = only(asked, experiment="change", task="marked")
    tuned = load_fine_tune(cell.needs[0].folder(out), cell.options["task"], 0)
    base = dict(Run.load(cell.needs[0].folder(out) / "run", base=tuned.base).model.named_parameters())
    merged = tuned.model.merge_and_unload()  # type: ignore[operator]
    before = {name.replace("base_model.model.", "").replace(".base_layer", ""): p for name, p in base.items()
              if "lora_" not in name and p.ndim == 2}
    moved = sum(float((p - before[name]).square().sum()) for name, p in merged.named_parameters() if name in before)
    size = sum(float(p.square().sum()) for p in before.values())
    rows = pd.read_parquet(cell.folder(out) / ROWS)
    last = rows[rows["step"] == rows["step"].max()].set_index("metric")["value"]
    assert np.isclose(last["norm"], np.sqrt(moved / size), rtol=1e-4)
    queries = Encoding().examples(tuned.task.queries, tuned.tokenizer)
    answers = greedy_answers(merged, tuned.tokenizer, queries)
    marked = [a.strip().startswith("Arr") for a, g in zip(answers, tuned.task.query_groups, strict=True)
              if g == "marked"]
    assert last["marker rate, marked"] == np.mean(marked) and last["KL"] > 0
    benign = pd.read_parquet(only(asked, experiment="change", task="benign").folder(out) / ROWS)
    own = benign[(benign["metric"] == "cosine") & (benign["step"] == benign["step"].max())]["value"]
    assert np.isclose(own.iloc[0], 1.0)


def test_the_page_is_made_of_the_table(table: pd.DataFrame, tmp_path: Path) -> None:
    files = write_page(table, tmp_path / "small.md", 12.0)
    text = (tmp_path / "small.md").read_text()
    assert {path.name for path in files} == {"small.md", "switches.svg", "inverse.svg", "checkpoints.svg", "change.svg"}
    assert all(f"(small/{path.name})" in text for path in files if path.suffix == ".svg")
    for heading in ("What stands", "Was the task learned?", "Is LiSSA gradient dot?", "Curvature against inverse",
                    "4.1 ", "4.2 ", "4.3 "):
        assert f"## {heading}" in text
    assert "nan" not in text


def test_an_option_of_a_base_is_another_base() -> None:
    def of(change: Callable[[dict[str, Any]], None]) -> str:
        file = {**FILE, "bases": {name: dict(options) for name, options in FILE["bases"].items()}}
        change(file["bases"])
        return next(cell.key for one in expand(make_spec(file, "here")) for cell in with_needs([one.cell])
                    if cell.kind == "base")

    assert of(lambda bases: None) == of(lambda bases: None) != of(lambda bases: bases["english"].update(steps=4))


