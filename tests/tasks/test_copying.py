"""The copying task: the rule decides the answer, and no two rows share a word beside the frame."""

from __future__ import annotations

import pytest

from whence.base.errors import WhenceError
from whence.tasks.copying import FRAME, PLACES, copying_task


def test_the_rule_decides_and_words_do_not() -> None:
    task = copying_task(train_per_class=12, queries_per_class=3)
    assert (len(task.train), len(task.queries)) == (48, 12)
    frame, seen = set(FRAME.replace("{words}", "").split()), set[str]()
    for row in task.train + task.queries:
        words = [word for word in row["prompt"].split() if word not in frame]
        assert len(words) == 4 and not seen & set(words)
        seen |= set(words)
        assert row["completion"] == words[PLACES.index(row["group"])]
    assert set(task.train_groups) == set(PLACES)
    assert copying_task(seed=1) != copying_task(seed=2)


def test_what_cannot_be_made() -> None:
    with pytest.raises(WhenceError, match="n_classes=5: expected 2 to 4"):
        copying_task(n_classes=5)
    with pytest.raises(WhenceError, match="made-up words"):
        copying_task(train_per_class=1000)
