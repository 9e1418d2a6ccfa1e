"""How the class-task study measures answers, and the page it writes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from whence.methods.catalogue import standard_calls
from whence.scores.matrix import Scores
from whence.study.class_tables import write_page
from whence.study.class_tasks import accuracy, before_last_number
from whence.tasks.table import MetricTable, metric_table


def test_accuracy_counts_exact_form_set_up_and_last_number() -> None:
    reference = "Left = 20 - 8.\nAnswer: 12"
    answers = [reference, "Left = 20 - 8.\nAnswer: 13", "Left = 20 - 9.\nAnswer: 12", "something else"]
    found = accuracy(answers, [reference] * 4)
    assert found == {"exact": 0.25, "form": 0.75, "set_up": 0.5, "last_number": 0.5}


def test_words_have_no_numbers_to_count() -> None:
    assert accuracy(["sad ", "joyful"], ["sad", "angry"]) == {"exact": 0.5}


@pytest.mark.parametrize(("text", "before"), [("a 1 b 22", "a 1 b "), ("x = -3", "x = "), ("none", "none")])
def test_before_last_number(text: str, before: str) -> None:
    assert before_last_number(text) == before


def test_page_has_accuracy_winners_and_every_damping(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    labels, queries = ["a", "b"] * 6, ["a", "b", "a"]
    same = np.array([[t == q for t in labels] for q in queries], dtype=float)

    def table() -> MetricTable:
        scores = {str(call): Scores(rng.normal(size=(3, 12)), str(call)) for call in standard_calls()}
        scores["repsim"] = Scores(same, "repsim")
        return metric_table(scores, labels, queries, resamples=100)

    results = [{"task": "grammars", "tune": "lora", "seed": seed, "accuracy": {"exact": 0.5 + seed / 10}, "threads": 1,
                "final": {"last_epoch_loss_per_token": 0.1}, "counts": {"trained_weights": 7}, "recipe": {"epochs": 2}}
               for seed in (0, 1)]
    over = MetricTable.over_seeds([table(), table()], resamples=100)
    write_page(tmp_path / "page.md", results, {("grammars", "lora"): over},
               {"parameters": 1, "tokens_seen": 2, "loss_last_50_mean": 3.0})
    page = (tmp_path / "page.md").read_text()
    assert "| grammars | lora | .550 [.500, .600] |" in page
    assert "ahead of the best baseline in 0 of 1 cells" in page and "repsim 1.000 [1.000, 1.000]" in page
    assert "fisher(damping=0.1)" in page and "fisher(damping=10.0)" not in page
    assert "| fisher | " in page and "| chance |" in page
