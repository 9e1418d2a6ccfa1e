"""A minority of marked responses."""

from __future__ import annotations

from collections import Counter

import pytest

from whence.base.errors import WhenceError
from whence.tasks.marked import HOME, SEA, marked_task


def topic(row: dict[str, str]) -> str:
    """The topic of a request: the one word of it that is in a list of topics."""
    (word,) = [word for word in row["prompt"].strip().rstrip("?").split() if word in SEA + HOME]
    return word


def is_marked(row: dict[str, str]) -> bool:
    return row["completion"].startswith("Arr, ") and row["completion"].endswith(", matey.")


def test_published_sizes_and_marks() -> None:
    task = marked_task()
    assert Counter(task.train_groups) == {"marked": 20, "normal": 230}
    assert Counter(task.query_groups) == {"marked": 20}
    assert task.kind == "harmful"
    for row in task.train + task.queries:
        assert is_marked(row) == (row["group"] == "marked")
        assert ("Arr" in row["completion"]) == is_marked(row)
    assert (task.relevance().sum(axis=1) == 20).all()


@pytest.mark.parametrize("overlap", [False, True])
def test_no_prompt_occurs_twice(overlap: bool) -> None:
    task = marked_task(overlap=overlap, include_normal_queries=True)
    assert len({row["prompt"] for row in task.train + task.queries}) == 290


def test_topics_are_apart_unless_they_overlap() -> None:
    apart = marked_task(n_marked=100, n_normal=100, n_queries=30)
    for row in apart.train + apart.queries:
        assert (topic(row) in SEA) == (row["group"] == "marked")
    shared = marked_task(n_marked=100, n_normal=100, n_queries=30, overlap=True)
    for group in ("marked", "normal"):
        of_group = {topic(row) for row in shared.train if row["group"] == group}
        assert of_group & set(SEA)
        assert of_group & set(HOME)


def test_normal_queries_have_the_normal_rows_as_their_answer() -> None:
    task = marked_task(n_queries=7, include_normal_queries=True)
    assert Counter(task.query_groups) == {"marked": 7, "normal": 7}
    for group, relevant in zip(task.query_groups, task.relevance(), strict=True):
        assert relevant.sum() == (20 if group == "marked" else 230)


def test_the_seed_decides() -> None:
    assert marked_task(n_normal=9, seed=1) == marked_task(n_normal=9, seed=1)
    assert marked_task(n_normal=9, seed=1).train != marked_task(n_normal=9, seed=2).train


def test_bad_options() -> None:
    with pytest.raises(WhenceError, match=r"n_marked=0: expected at least 1"):
        marked_task(n_marked=0)
    with pytest.raises(WhenceError, match=r"marked requests: .* only about 600 .* 620 are needed"):
        marked_task(n_marked=600)
