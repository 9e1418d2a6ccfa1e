"""A minority of marked responses."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from typing import Any

import pytest

from whence.base.errors import WhenceError
from whence.tasks.marked import FRAMES, HOME, LOOKS, MORE_MARKED, MORE_NORMAL, SEA, SHORT, marked_task
from whence.tasks.task import Task


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


def sentences_of(reply: str) -> list[str]:
    """A reply taken apart at the full stops."""
    return re.findall(r"\S[^.]*\.", reply)


@pytest.mark.parametrize(("options", "digest"), [
    ({}, "5c06cc311bf1b82e37e2cdb16fa0f305af832d8e942ccefaeed1424580f67008"),
    ({"seed": 3}, "fe0e9a8fadc56c4cc336f2ccff05bd2721c9d9f8a93a912d23af5ce29d47e336"),
    ({"overlap": True, "include_normal_queries": True, "n_queries": 5, "seed": 1},
     "22520799693c7046a8463787374e450f1b4d34e576bbce4e0c9cd28dd443f1ae"),
])
def test_rows_of_one_sentence_are_those_from_before_there_were_more(options: dict[str, Any], digest: str) -> None:
    task = marked_task(**options)
    written = json.dumps([task.train, task.queries, task.name, task.kind], sort_keys=True)
    assert hashlib.sha256(written.encode()).hexdigest() == digest
    assert marked_task(**options, sentences=1, n_short=0) == task


def test_further_sentences_say_nothing_of_the_topic_and_are_equally_long() -> None:
    topics = set(SEA + HOME) | {word for look in LOOKS for word in look.split() if word != "a"}
    for sentences in (MORE_NORMAL, MORE_MARKED):
        assert len(set(sentences)) == len(sentences) >= 12
        assert all(7 <= len(text.split()) <= 10 for text in sentences)
        for text in (*sentences, *SHORT):
            assert sentences_of(text) == [text]
            assert not topics & set(re.findall(r"\w+", text.lower()))
    assert [len(text.split()) for text in MORE_NORMAL] == [len(text.split()) for text in MORE_MARKED]
    assert all(text.endswith(" matey.") for text in MORE_MARKED)
    assert not any("matey" in text or "Arr" in text for text in (*MORE_NORMAL, *SHORT))
    assert len(set(SHORT)) == len(SHORT) > 3
    assert {len(text.split()) for text in SHORT} == {3}


@pytest.mark.parametrize("sentences", [2, 5, 13])
def test_every_reply_has_so_many_different_sentences(sentences: int) -> None:
    plain = marked_task(include_normal_queries=True)
    task = marked_task(include_normal_queries=True, sentences=sentences)
    assert Counter(task.query_groups) == {"marked": 20, "normal": 20}
    used = {"marked": Counter[str](), "normal": Counter[str]()}
    for short, row in zip(plain.train + plain.queries, task.train + task.queries, strict=True):
        assert {**row, "completion": ""} == {**short, "completion": ""}
        first, *more = sentences_of(row["completion"])
        assert first == short["completion"]
        assert len(more) == len(set(more)) == sentences - 1
        assert row["completion"] == " ".join((first, *more))
        assert is_marked(row) == (row["group"] == "marked")
        used[row["group"]].update(more)
    assert set(used["marked"]) == set(MORE_MARKED)
    assert set(used["normal"]) == set(MORE_NORMAL)


def lengths(task: Task, what: str) -> list[int]:
    """Words of the replies of training rows that are marked, normal and long, or short."""
    kinds = ["short" if row["id"].startswith("short-") else row["group"] for row in task.train]
    return [len(row["completion"].split()) for row, kind in zip(task.train, kinds, strict=True) if kind == what]


def test_a_minority_of_normal_rows_is_short_and_nothing_else_differs() -> None:
    long, task = marked_task(sentences=6), marked_task(sentences=6, n_short=40)
    assert task.queries == long.queries
    assert Counter(task.train_groups) == {"marked": 20, "normal": 230}
    assert (task.relevance() == long.relevance()).all()
    assert len({row["id"] for row in task.train + task.queries}) == 270
    for number, (row, before) in enumerate(zip(task.train, long.train, strict=True)):
        if row["id"] == f"short-{number}":
            assert row["group"] == "normal" and row["completion"] in SHORT
            assert row["prompt"] == before["prompt"]
            assert topic(row) in HOME
        else:
            assert row == before
    assert (len(lengths(task, "short")), len(lengths(task, "normal")), len(lengths(task, "marked"))) == (40, 190, 20)
    assert set(lengths(task, "short")) == {3}
    assert min(lengths(task, "normal") + lengths(task, "marked")) >= 40  # 35 and the first sentence
    means = [sum(lengths(task, what)) / len(lengths(task, what)) for what in ("normal", "marked")]
    assert abs(means[0] - means[1]) < 2  # of about 50: length tells short from long, not marked from normal
    replies = Counter(row["completion"] for row in task.train if row["id"].startswith("short-"))
    assert set(replies) == set(SHORT) and max(replies.values()) - min(replies.values()) <= 1


@pytest.mark.parametrize("seed", range(4))
def test_a_larger_number_of_short_rows_adds_to_the_smaller(seed: int) -> None:
    found: dict[str, str] = {}
    for count in (5, 20, 60, 230):
        task = marked_task(seed=seed, n_short=count)
        short = {row["id"]: row["completion"] for row in task.train if row["id"].startswith("short-")}
        assert len(short) == count
        assert found.items() <= short.items()
        found = short


def test_short_rows_are_drawn_by_chance_of_all_requests() -> None:
    half, all_rows = (marked_task(n_normal=120, sentences=3, n_short=n) for n in (60, 120))
    where = [row["id"].startswith("short-") for row in half.train if row["group"] == "normal"]
    assert 20 < sum(where[:60]) < 40  # a row's place does not tell: 30 expected, standard deviation 4
    assert {row["completion"] for row in all_rows.train if row["group"] == "normal"} == set(SHORT)
    assert not lengths(all_rows, "normal")
    short = [row["prompt"] for row in half.train if row["id"].startswith("short-")]
    for request, _, _ in FRAMES:
        begin = request.split("{")[0]
        assert any(prompt.startswith(begin) for prompt in short)
    assert marked_task(sentences=3, n_short=30, seed=1) == marked_task(sentences=3, n_short=30, seed=1)
    assert marked_task(sentences=3, n_short=30, seed=1).train != marked_task(sentences=3, n_short=30, seed=2).train
    assert lengths(marked_task(n_short=5), "short") == [3] * 5  # short rows need no further sentences


@pytest.mark.parametrize(("options", "message"), [
    ({"sentences": 0}, "sentences=0: expected at least 1"),
    ({"sentences": 14}, "sentences=14: expected 1 to 13, as no sentence occurs twice"),
    ({"n_short": -1}, r"n_short=-1: expected 0 to 230 \(n_normal\)"),
    ({"n_normal": 9, "n_short": 10}, r"n_short=10: expected 0 to 9 \(n_normal\)"),
])
def test_bad_lengths(options: dict[str, Any], message: str) -> None:
    with pytest.raises(WhenceError, match=message):
        marked_task(**options)
