"""Word problems."""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction

import pytest

from whence.base.errors import WhenceError
from whence.tasks.arithmetic import TEMPLATES, arithmetic_task

COMPUTE = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b, "/": Fraction}


def test_sizes_labels_and_distinct_prompts() -> None:
    task = arithmetic_task()
    assert Counter(task.train_groups) == dict.fromkeys(list(TEMPLATES)[:10], 90)
    assert Counter(task.query_groups) == dict.fromkeys(list(TEMPLATES)[:10], 10)
    prompts = [row["prompt"] for row in task.train + task.queries]
    assert len(set(prompts)) == 1000


def test_every_answer_is_right_and_uses_the_numbers_of_the_problem() -> None:
    largest = 6
    task = arithmetic_task(n_classes=len(TEMPLATES), train_per_class=30, queries_per_class=1, largest=largest)
    for row in task.train:
        unknown, a, sign, b, result = re.fullmatch(r"(\w+) = (\d+) ([-+*/]) (\d+)\.\nAnswer: (\d+)",
                                                   row["completion"]).groups()
        assert re.findall(r"\d+", row["prompt"]) == [a, b]
        assert COMPUTE[sign](int(a), int(b)) == int(result)
        assert 2 <= int(b) <= largest
        assert int(a) <= {"+": largest, "*": largest, "-": 2 * largest, "/": largest**2}[sign]
        assert int(result) >= 2
        assert unknown == TEMPLATES[row["group"]].unknown
        assert row["prompt"].endswith("\n")
        assert "{" not in row["prompt"]


def test_operations_are_shared_by_templates() -> None:
    shared = Counter(template.operation.sign for template in TEMPLATES.values())
    assert shared == {"+": 3, "-": 3, "*": 3, "/": 3}


def test_the_seed_decides() -> None:
    small = {"n_classes": 2, "train_per_class": 4, "queries_per_class": 2}
    assert arithmetic_task(**small, seed=1) == arithmetic_task(**small, seed=1)
    assert arithmetic_task(**small, seed=1).train != arithmetic_task(**small, seed=2).train


def test_bad_options() -> None:
    with pytest.raises(WhenceError, match=r"n_classes=13: expected 2 to 12"):
        arithmetic_task(n_classes=13)
    with pytest.raises(WhenceError, match=r"train_per_class=-1: expected at least 1"):
        arithmetic_task(train_per_class=-1)
    with pytest.raises(WhenceError, match=r"largest=1: expected at least 2"):
        arithmetic_task(largest=1)
    with pytest.raises(WhenceError, match=r"'walking' with numbers up to 2: .* about 12 .* 13 are needed"):
        arithmetic_task(largest=2, train_per_class=12, queries_per_class=1)
