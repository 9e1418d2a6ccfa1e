"""Verdicts: each world in which a published conclusion holds, fails or is an artefact is called by its name."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pandas as pd
import pytest

from tests.study.li2024.worlds import rows, table
from whence.study.li2024 import answers
from whence.study.li2024.answers import ARTEFACT, FAILS, HOLDS, OPEN

THREE = ("gradient-dot", "datainf", "lissa")


def all_three(value: float) -> dict[str, float]:
    return dict.fromkeys(THREE, value)


def paper(published: Mapping[str, float], corrected: Mapping[str, float]) -> pd.DataFrame:
    """Acc on four tasks, the same on each."""
    return table(*(rows({"tfidf": 0.8, **values}, experiment="paper", metric="acc", task=task, training=setting,
                        scoring=setting)
                   for task in ("a", "b", "c", "d")
                   for setting, values in (("published", published), ("corrected", corrected))))


@pytest.mark.parametrize(("published", "corrected", "verdict"), [(0.6, 0.6, HOLDS), (0.6, 0.9, ARTEFACT),
                                                                 (0.9, 0.9, FAILS), (0.8, 0.8, FAILS)])
def test_poor(published: float, corrected: float, verdict: str) -> None:
    assert answers.poor(paper(all_three(published), all_three(corrected))).verdict == verdict


@pytest.mark.parametrize(("repsim", "verdict"), [(0.7, HOLDS), (0.45, OPEN), (0.1, FAILS)])
def test_repsim_must_beat_both(repsim: float, verdict: str) -> None:
    world = table(rows({"repsim": repsim, "gradient-dot": 0.4, "ekfac": 0.5}, experiment="causes",
                       metric="leave-k-out"),
                  rows({"repsim": 0.95}, experiment="paper", metric="acc"))
    found = answers.repsim(world)
    assert found.verdict == verdict and "Acc .95" in found.evidence


@pytest.mark.parametrize(("published", "convergent", "verdict"), [(1.0, 0.4, ARTEFACT), (1.0, 0.97, HOLDS),
                                                                  (0.5, 0.4, OPEN)])
def test_lissa(published: float, convergent: float, verdict: str) -> None:
    here = {"metric": "as gradient-dot", "experiment": "switches", "training": "published"}
    world = table(rows({"lissa": published}, **here, scoring="published"),
                  rows({"lissa": convergent}, **here, scoring="LiSSA corrected"),
                  rows({"lissa": convergent}, **{**here, "experiment": "paper", "training": "corrected"}))
    assert answers.lissa(world).verdict == verdict


@pytest.mark.parametrize(("by_block", "whole", "cg", "verdict", "first"), [
    (0.5, 0.3, 0.5, HOLDS, "not hold"), (0.3, 0.5, 0.5, FAILS, "hold"), (0.4, 0.4, 0.55, FAILS, "not hold"),
    (0.4, 0.4, 0.4, OPEN, "not hold")])
@pytest.mark.parametrize(("experiment", "metric"), [("curvature", "leave-k-out"), ("curvature, more rows", "lds")])
def test_reason_one(by_block: float, whole: float, cg: float, verdict: str, first: str, experiment: str,
                    metric: str) -> None:
    """DataInf is compared with the exact inverse of its own blocks; where both benches are there, that with halves."""
    place = {"experiment": experiment, "metric": metric}
    parts = [rows({"fisher(scope=model, damping=10.0)": whole, "cg(damping=10.0, iterations=20)": cg,
                   "ekfac(damping=10.0)": 0.5}, **place),
             rows({"datainf": 0.4, "fisher": by_block}, **place, scoring="corrected, damping 10")]
    if experiment != "curvature":
        parts.append(rows({"fisher(scope=model, damping=10.0)": 0.9, "cg(damping=10.0)": 0.1, "datainf": 0.2},
                          experiment="curvature", metric="leave-k-out"))
    found = answers.reason_one(table(*parts))
    assert found.verdict == verdict and found.evidence.startswith(f"{metric} at damping 10")
    assert found.evidence.endswith(f"it would {first}")


def pads(first: float, masked: float, acc: float, acc_masked: float, summed: float = 0.0) -> pd.DataFrame:
    here = {"experiment": "short rows", "task": "short rows", "scoring": "published"}
    return table(*(rows(all_three(value), **here, training=training, metric=metric)
                   for training, metric, value in (("published", "top-1 is short", first), ("published", "acc", acc),
                                                   ("pads masked", "top-1 is short", masked),
                                                   ("pads masked", "acc", acc_masked))),
                 rows(all_three(summed), **{**here, "scoring": "sum loss"}, training="pads masked",
                      metric="top-1 is short"),
                 rows(all_three(0.9), **{**here, "task": "no short rows"}, training="published", metric="acc"))


@pytest.mark.parametrize(("first", "masked", "acc", "acc_masked", "verdict", "said"), [
    (0.9, 0.05, 0.05, 0.9, ARTEFACT, "Yes: short rows come first more often than chance as published, and less often"),
    (0.9, 0.9, 0.05, 0.05, OPEN, "No: short rows come first more often than chance with pads and without."),
    (0.0, 0.4, 0.9, 0.5, FAILS, "there are none here"),
    (0.0, 0.0, 0.9, 0.9, FAILS, "there are none here")])
def test_harmful_rows_and_pads(first: float, masked: float, acc: float, acc_masked: float, verdict: str,
                               said: str) -> None:
    world = pads(first, masked, acc, acc_masked)
    text = answers.pads(world)
    assert answers.harmful(world).verdict == verdict and said in text
    assert ("Masking pads *makes* them" in text) == (masked > 0.2 and first < 0.1)


@pytest.mark.parametrize(("first", "masked", "summed", "said"), [
    (0.0, 0.5, 0.0, ("Masking pads *makes* them (.5", "they are gone (")),
    (0.9, 0.5, 0.0, ("Masking pads leaves some (.5", "they are gone (")),
    (0.5, 0.5, 0.4, ("Masking pads changes nothing of them (.5", "short rows still come first (.4"))])
def test_what_masking_does_is_read_off_the_change(first: float, masked: float, summed: float,
                                                  said: tuple[str, ...]) -> None:
    text = answers.pads(pads(first, masked, 0.5, 0.5, summed))
    assert all(words in text for words in said)


def test_gradients_of_another_padding_are_told_apart_from_the_fine_tunes_own() -> None:
    here = {"task": "short rows", "metric": "top-1 is short", "scoring": "published"}
    world = pd.concat([pads(0.0, 0.0, 0.9, 0.9), table(
        *(rows(all_three(value), **here, experiment=experiment, training=training)
          for experiment, training, value in (
              ("short rows, training", "pads masked", 0.0),
              ("short rows, training", "pads masked / pads counted in gradients", 0.7),
              ("short rows, first version", "first version", 0.0),
              ("short rows, first version", "first version / padded on the left for gradients", 0.5))))])
    text = answers.pads(world)
    assert re.search(r"the fine-tune never saw, a short row comes first for \.(69|70)", text)
    assert re.search(r"the first version .* a short row comes first for \.(49|50)", text)


@pytest.mark.parametrize(("published", "corrected", "verdict"), [(-0.3, -0.3, HOLDS), (-0.3, 0.0, ARTEFACT),
                                                                 (0.0, 0.1, FAILS)])
def test_triggers(published: float, corrected: float, verdict: str) -> None:
    world = table(*(rows(all_three(0.7 + (drop if task == "5 triggers" else 0.0)), experiment="paper", metric="acc",
                         task=task, training=setting, scoring=setting)
                    for setting, drop in (("published", published), ("corrected", corrected))
                    for task in ("1 trigger", "3 triggers", "5 triggers")))
    assert answers.triggers(world).verdict == verdict


@pytest.mark.parametrize(("change", "verdict"), [(0.2, HOLDS), (-0.2, FAILS), (0.0, OPEN)])
def test_convergence(change: float, verdict: str) -> None:
    world = table(*(rows(all_three(0.4 + (change if training == "longer training" else 0.0)), experiment="switches",
                         metric=metric, training=training, scoring="published")
                    for training in ("published", "longer training") for metric in ("acc", "leave-k-out")))
    assert answers.convergence(world).verdict == verdict


@pytest.mark.parametrize(("norm", "rate", "verdict"), [(0.25, 0.9, HOLDS), (0.9, 0.9, FAILS), (0.25, 0.1, FAILS),
                                                       (0.5, 0.4, OPEN)])
def test_behaviour_is_read_at_the_last_step(norm: float, rate: float, verdict: str) -> None:
    world = table(*(rows({"": value}, experiment="change", metric=metric, task=task, step=step)
                    for step, factor in ((1, 9.0), (2, 1.0))
                    for task, values in (("benign", (0.2, 0.0, 1.0)), ("mixed 20/20", (norm, rate, 1.2)))
                    for metric, value in zip(("norm", "marker rate, marked", "KL"),
                                             (each * factor for each in values), strict=True)))
    assert answers.behaviour(world).verdict == verdict


@pytest.mark.parametrize(("dot", "others", "words", "verdict"), [(0.9, 0.9, 0.95, HOLDS), (0.7, 0.9, 0.95, OPEN),
                                                                 (0.9, 0.9, 0.3, OPEN)])
def test_mathematics(dot: float, others: float, words: float, verdict: str) -> None:
    world = table(rows({"gradient-dot": dot, "datainf": others, "lissa": others, "tfidf": words}, experiment="paper",
                       task="math", metric="acc"))
    assert answers.mathematics(world).verdict == verdict


def test_what_was_not_run_is_not_answered() -> None:
    found = answers.answers(paper(all_three(0.6), all_three(0.6)).replace({"task": {"a": "1 trigger", "b": "3 triggers",
                                                                                   "c": "5 triggers", "d": "math"}}))
    assert len(found) == 3 and all(one.rule and one.evidence for one in found)
