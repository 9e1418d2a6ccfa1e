"""Curvature against inverse: the right rows are compared, and said in words as the intervals say it."""

from __future__ import annotations

import re

import pandas as pd
import pytest

from tests.study.li2024.worlds import rows, table
from whence.study.li2024.inverses import COPYING, MORE_ROWS, STEPS, at_damping, by_damping, compared, decisive, parts

LDS = {"experiment": "curvature, more rows", "metric": "lds"}


def bench(datainf: float, fisher: float, cg: float, by_block: float = 0.45) -> pd.DataFrame:
    """DataInf and the by-block Fisher know their damping from the scoring, the others from their names."""
    return table(
        rows({"datainf": datainf, "fisher(scope=model)": fisher, "fisher(scope=model, damping=10.0)": fisher + 0.1,
              "ekfac": 0.52, "ekfac(damping=10.0)": 0.48, "ekfac(labels=empirical, damping=10.0)": 0.47,
              "gradient-dot": 0.4, "random": 0.0, "tfidf": 0.3}, **LDS),
        rows({"datainf": datainf + 0.01, "fisher": by_block}, **{**LDS, "scoring": "corrected, damping 10"}),
        rows({"cg(damping=10.0, iterations=20, rows=-1)": cg}, **LDS),
        rows({"cg(damping=10.0, iterations=20, rows=-1)": 0.003}, **{**LDS, "metric": "residual"}),
        rows({"datainf": 0.9, "fisher(scope=model)": 0.1}, **{**LDS, "experiment": "curvature"}))


@pytest.mark.parametrize(("method", "damping", "expected"), [
    ("datainf", 0.1, 0.40), ("datainf", 10.0, 0.41), ("fisher(scope=model)", 0.1, 0.33),
    ("fisher(scope=model)", 10.0, 0.43), ("ekfac", 0.1, 0.52), ("ekfac", 10.0, 0.48),
    ("ekfac(labels=empirical)", 10.0, 0.47), ("cg", 10.0, 0.5), ("gradient-dot", 10.0, 0.4)])
def test_a_method_at_a_damping(method: str, damping: float, expected: float) -> None:
    found = at_damping(bench(0.40, 0.33, 0.5), MORE_ROWS, method, damping)
    assert found["value"].mean() == pytest.approx(expected, abs=0.005)
    assert (found["experiment"] == MORE_ROWS.experiment).all() and (found["metric"] == "lds").all()


def test_what_was_not_run_is_nothing() -> None:
    assert at_damping(bench(0.4, 0.3, 0.5), MORE_ROWS, "cg", 1.0).empty
    assert compared(bench(0.4, 0.3, 0.5), MORE_ROWS, "cg", "datainf", "full").n == 0


def test_differences_are_paired_and_of_one_bench() -> None:
    found = compared(bench(0.40, 0.33, 0.50), MORE_ROWS, "cg", "fisher(scope=model)", "lora")
    assert found.value == pytest.approx(0.07, abs=0.005) and found.low > 0.05
    assert compared(bench(0.4, 0.33, 0.5), COPYING, "fisher(scope=model)", "datainf", damping=0.1,
                    metric="lds").value == pytest.approx(-0.8, abs=0.005)
    text = decisive(bench(0.40, 0.33, 0.50), MORE_ROWS, [10.0], ["lds"])
    assert "| difference | lds: LoRA, damping 10 | lds: all weights, damping 10 |" in text
    assert re.search(r"both whole-model: the curvature \| \+\.0[67]\d ", text)
    assert all(line.endswith("| - |") for line in text.splitlines()[2:])  # nothing was tuned in full


@pytest.mark.parametrize(("by_block", "fisher", "cg", "solver", "blocks", "curvature"), [
    (0.50, 0.40, 0.60, "a gain", "not clear of zero", "a gain"),
    (0.30, 0.30, 0.40, "a loss", "a gain", "not clear of zero"),
    (0.41, 0.21, 0.20, "not clear of zero", "a loss", "a loss")])
def test_the_answer_in_words(by_block: float, fisher: float, cg: float, solver: str, blocks: str,
                             curvature: str) -> None:
    """The solver is judged on DataInf's own matrix, whatever the whole model's Fisher does."""
    text = parts(bench(0.40, fisher, cg, by_block))
    for step, said in (("solver", solver), ("blocks", blocks), ("curvature", curvature)):
        assert re.search(rf"the {step} \([^)]+ inverted exactly\) \S+ \[[^]]+\], {said}[,.]", text), step
    assert "With LoRA, damping 10" in text and "all weights" not in text


def test_the_steps_add_up() -> None:
    world = bench(0.40, 0.30, 0.55, 0.47)
    steps = [compared(world, MORE_ROWS, a, b, "lora").value for _, a, b in STEPS]
    assert steps == pytest.approx([0.06, -0.07, 0.15], abs=0.005)
    assert sum(steps) == pytest.approx(compared(world, MORE_ROWS, "cg", "datainf", "lora").value)


def test_the_table_has_every_damping_the_baselines_and_the_residual() -> None:
    text = by_damping(bench(0.40, 0.33, 0.50), MORE_ROWS)
    assert "LoRA, damping 0.1 | LoRA, damping 1 | LoRA, damping 10 | all weights, damping 0.1" in text
    (line,) = [line for line in text.splitlines() if line.startswith("| `cg`")]
    assert line.split(" | ")[3:5] == ["-", "-"] and line.split(" | ")[5].startswith(".50")
    assert "| `tfidf` | - | - | .30" in text
    assert re.search(r"Relative residual .*: LoRA, damping 10: \S+ \(largest \S+\)\.", text)
