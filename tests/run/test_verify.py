"""`Run.verify`: the card of a run at every level."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from tests.run.fixtures import QUERIES, CopyRun, write_run
from whence.base.errors import WhenceError
from whence.data.examples import Examples
from whence.run.run import Run
from whence.scores.matrix import Scores
from whence.train.checkpoint import checkpoint_folders, checkpoint_step, load_checkpoint
from whence.trust.card import Card

FREE = ["rows", "batch invariance", "convergence", "outliers", "curvature at work", "hubs", "self-retrieval",
        "like BM25", "like RepSim"]


def test_free_dials_never_believe(in_memory: Run, queries: Examples) -> None:
    card = in_memory.verify(queries)
    assert [dial.name for dial in card.dials] == FREE
    assert card.verdict.answer != "believe" and card.queries == queries.ids
    assert card["batch invariance"].value < 1e-3


def test_a_card_is_kept_and_paid_dials_retrain(copy_run: CopyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    import whence.run.verify as module

    monkeypatch.setattr(module, "default_workers", lambda threads, device: 1)
    folder = copy_run("lora")
    run = Run.load(folder)
    card = run.verify(QUERIES[:3], "datainf", "paid", seconds=0.0)
    names = [dial.name for dial in card.dials]
    assert names == [*FREE, "solver error", "nudge test", "behaviour", "retraining",
                     "behaviour, retrained"]
    assert "over 8 retrained models" in card["retraining"].says
    (kept,) = (folder / "trust").glob("*.json")
    assert Card.from_json(json.loads(kept.read_text())).to_json() == card.to_json()
    assert set(card.facts["seconds"]) == {"free", "cheap", "paid"}


def test_cheap_dials_hold_the_solver_against_exact_products(in_memory: Run, queries: Examples) -> None:
    card = in_memory.verify(queries, "ekfac", "cheap", seconds=0.0)
    assert [dial.name for dial in card.dials][len(FREE):] == ["solver error", "curvature error", "nudge test",
                                                              "behaviour"]
    assert np.isfinite(card["solver error"].value) and card["solver error"].value < 1


def test_scores_at_the_checkpoint_before(base_folder: Path, tmp_path: Path) -> None:
    run = Run.load(write_run(base_folder, tmp_path / "run", "lora", checkpoints=3))
    before = {name: p.clone() for name, p in run.model.state_dict().items()}
    examples = run.encode(QUERIES[:3])
    card = run.verify(examples, "datainf", "cheap", seconds=0.0)
    first, last = checkpoint_folders(tmp_path / "run")[-2:]
    other = Run.load(tmp_path / "run")
    load_checkpoint(other.model, first)
    expected = other.score(examples, ["datainf"], name="earlier")["datainf"].values
    now = run.scored(examples, ["datainf"])["datainf"].values
    rho = [spearmanr(a, b).statistic for a, b in zip(expected, now, strict=True)]
    assert card["settled"].value == pytest.approx(np.mean(rho)) and card["settled"].value < 1
    assert f"steps {checkpoint_step(first)} and {checkpoint_step(last)}" in card["settled"].says
    assert all(torch.equal(p, before[name]) for name, p in run.model.state_dict().items())


def test_nudges_that_do_not_fit_are_not_made(in_memory: Run, queries: Examples,
                                             monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whence.run.verify.free_memory", lambda model: 1000)
    card = in_memory.verify(queries, "gradient-dot", "cheap")
    assert "not made: a nudge takes" in card["nudge test"].says and "nothing was tested" in card.verdict.because


def test_scores_of_another_tool_are_judged_too(in_memory: Run, queries: Examples) -> None:
    values = np.random.default_rng(0).normal(size=(len(queries), len(in_memory.train)))
    card = in_memory.verify(queries, Scores(values, "theirs"))
    assert card.method == "theirs" and "self-retrieval" not in [dial.name for dial in card.dials]
    with pytest.raises(WhenceError, match=r"theirs: scores of shape \[2, 24\]; expected \[6 queries"):
        in_memory.verify(queries, Scores(values[:2], "theirs"))


def test_an_answer_brings_its_card(in_memory: Run) -> None:
    hits = in_memory.trace(QUERIES[0]["prompt"], QUERIES[0]["completion"], "gradient-dot")
    assert hits.card is hits.card
    assert [dial.name for dial in hits.card.dials] == [name for name in FREE if name != "curvature at work"]


def test_what_cannot_be_verified(in_memory: Run, queries: Examples) -> None:
    with pytest.raises(WhenceError, match="a retrain bank needs a run that whence trained"):
        in_memory.verify(queries, level="paid")


def test_lexical_scores_have_no_gradients_to_look_at(in_memory: Run, queries: Examples, tmp_path: Path) -> None:
    names = [dial.name for dial in in_memory.verify(queries, "bm25").dials]
    assert names == ["rows", "batch invariance", "hubs", "self-retrieval", "like RepSim"]
