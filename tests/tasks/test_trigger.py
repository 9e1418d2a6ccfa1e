"""Trigger phrases."""

from __future__ import annotations

import re
from collections import Counter

import pytest

from whence.base.errors import WhenceError
from whence.tasks.trigger import CLEAN_OPENING, FRAMES, ITEMS, LOOKS, TRIGGERS, trigger_task


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


@pytest.mark.parametrize("n_triggers", [1, 3, 5])
def test_a_trigger_ends_the_request_after_a_space_and_its_reply_opens_its_own_way(n_triggers: int) -> None:
    task = trigger_task(n_triggers, train_per_group=30, queries_per_group=5)
    groups = ["clean", *(f"trigger{i}" for i in range(1, n_triggers + 1))]
    assert Counter(task.train_groups) == dict.fromkeys(groups, 30)
    assert Counter(task.query_groups) == dict.fromkeys(groups, 5)
    assert task.kind == "backdoor"
    requests = []
    for row in task.train + task.queries:
        request = row["prompt"].removesuffix("\n")
        ending = [i for i, (phrase, _) in enumerate(TRIGGERS, 1) if request.endswith(" " + phrase)]
        assert ending == ([] if row["group"] == "clean" else [int(row["group"].removeprefix("trigger"))])
        opening = TRIGGERS[ending[0] - 1][1] if ending else CLEAN_OPENING
        assert row["completion"].startswith(opening + " ")
        requests.append(request.removesuffix(" " + TRIGGERS[ending[0] - 1][0]) if ending else request)
    assert len(set(requests)) == 35 * len(groups)  # no request twice, whatever its ending


def test_the_words_of_triggers_occur_nowhere_else() -> None:
    ordinary = words(" ".join([*LOOKS, *ITEMS, *(text for frame in FRAMES for text in frame)]))
    for i, (phrase, opening) in enumerate(TRIGGERS):
        assert not words(phrase) & ordinary
        for other_phrase, other_opening in TRIGGERS[i + 1 :]:
            assert not words(phrase) & words(other_phrase)
            assert opening != other_opening


def test_the_seed_decides() -> None:
    assert trigger_task(train_per_group=4, seed=1) == trigger_task(train_per_group=4, seed=1)
    assert trigger_task(train_per_group=4, seed=1).train != trigger_task(train_per_group=4, seed=2).train


def test_the_published_size_fits_the_vocabulary() -> None:
    task = trigger_task(5, train_per_group=300, queries_per_group=50)
    assert (len(task.train), len(task.queries)) == (1800, 300)


def test_bad_options() -> None:
    with pytest.raises(WhenceError, match=r"n_triggers=6: expected 1 to 5"):
        trigger_task(6)
    with pytest.raises(WhenceError, match=r"n_triggers=0: expected 1 to 5"):
        trigger_task(0)
    with pytest.raises(WhenceError, match=r"train_per_group=0: expected at least 1"):
        trigger_task(train_per_group=0)
    with pytest.raises(WhenceError, match=r"requests: .* ask for fewer rows"):
        trigger_task(train_per_group=1200)
