"""The copying task: the rule decides the answer, and no two rows share a word beside the frame."""

from __future__ import annotations

import doctest
import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from whence.base.errors import WhenceError
from whence.methods.bm25 import bm25_scores
from whence.methods.tfidf import tfidf_scores
from whence.tasks import copying
from whence.tasks.copying import FRAME, FRAMES, PLACES, copying_task, example, made_up_word, taught_text
from whence.tasks.metrics import judge, measure
from whence.tasks.task import Task

Lexical = Callable[[list[str], list[str]], np.ndarray]
LEXICAL: dict[str, Lexical] = {"tfidf": tfidf_scores, "bm25": bm25_scores,
           "tfidf of single words": lambda queries, rows: tfidf_scores(queries, rows, (1, 1))}


def taken_apart(row: dict[str, str]) -> tuple[int, list[str]]:
    """The frame of a row, found by matching whole prompts, and its made-up words."""
    (found,) = [(i, match) for i, frame in enumerate(FRAMES)
                if (match := re.fullmatch(re.escape(frame).replace(r"\{words\}", "(.*)"), row["prompt"]))]
    return found[0], found[1][1].split(" ")


def lexical(task: Task, scores_of: Lexical, with_answer: bool) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Scores [Q, N] and metrics of a lexical method on prompts, or prompts and answers."""
    queries, train = ([row["prompt"] + with_answer * row["completion"] for row in rows]
                      for rows in (task.queries, task.train))
    values = scores_of(queries, train)
    return values, measure(judge(values, task.train_groups, task.query_groups))


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


@pytest.mark.parametrize(("options", "digest"), [
    ({}, "84f544765f034b97d62a94dbf196c2b07c97fcc8add896c2199c39d931b9defc"),
    ({"seed": 3}, "5e9ac3bd1ee4f3cad1d487ff1c112a8c5d1180995df2af2eb1a42fd05d0bc0ab"),
    ({"n_classes": 2, "train_per_class": 7, "queries_per_class": 2, "seed": 1},
     "c16d46ff157db1e504786cea04635f0a92d034e07b6a974fb0533013a0dc2d86"),
])
def test_rows_of_one_frame_are_those_from_before_there_were_more(options: dict[str, Any], digest: str) -> None:
    task = copying_task(**options)
    written = json.dumps([task.train, task.queries, task.name, task.kind], sort_keys=True)
    assert hashlib.sha256(written.encode()).hexdigest() == digest
    assert copying_task(**options, crossed=False) == task


def test_frames_have_nothing_in_common_and_the_same_form() -> None:
    pieces = [Counter(re.findall(r"\w+|[^\w\s]", frame.format(words="").lower())) for frame in FRAMES]
    assert len(FRAMES) == len(PLACES) and FRAMES[0] == FRAME == "Out of {words} take one:\n"
    assert all(a.keys().isdisjoint(b) for i, a in enumerate(pieces) for b in pieces[:i])
    assert [piece.total() for piece in pieces] == [5] * 4  # so that no frame is longer than another
    for frame in FRAMES:
        assert frame.format(words="a b c d").split()[2:6] == [*"abcd"]


@pytest.mark.parametrize(("n_classes", "train", "queries"), [(4, 30, 5), (4, 7, 2), (3, 5, 1), (2, 3, 2), (4, 1, 1)])
def test_crossed_rules_and_frames(n_classes: int, train: int, queries: int) -> None:
    task = copying_task(n_classes, train, queries, crossed=True)
    assert (len(task.train), len(task.queries)) == (n_classes * train, n_classes * queries)
    seen: Counter[tuple[str, int]] = Counter()
    for rows in (task.train, task.queries):
        for row in rows:
            frame, words = taken_apart(row)
            place = PLACES.index(row["group"])
            assert len(words) == 4 and row["completion"] == words[place]
            assert frame < n_classes
            assert (frame == place) == (rows is task.queries)
            seen[row["group"], frame] += rows is task.train
    for place, rule in enumerate(PLACES[:n_classes]):
        of_rule = [seen[rule, frame] for frame in range(n_classes) if frame != place]
        assert sum(of_rule) == train
        assert max(of_rule) - min(of_rule) <= 1
    for frame in range(n_classes):  # no frame is more frequent than another
        assert sum(seen[rule, frame] for rule in PLACES) == train


def test_crossed_words_occur_once_and_in_no_frame() -> None:
    frames = set(re.findall(r"\w+", " ".join(FRAMES).lower()))
    plain, crossed = (copying_task(train_per_class=200, seed=1, crossed=x) for x in (False, True))
    for task, shared in ((plain, {"take"}), (crossed, set())):  # this seed makes up a word that a frame has
        words = [word for row in task.train + task.queries for word in taken_apart(row)[1]]
        assert len(words) == 4 * 820 == len(set(words))
        assert frames & set(words) == shared


def test_crossing_changes_the_frames_alone() -> None:
    plain, crossed = copying_task(seed=4), copying_task(seed=4, crossed=True)
    for one, other in zip(plain.train + plain.queries, crossed.train + crossed.queries, strict=True):
        assert taken_apart(one)[0] == 0
        assert taken_apart(one)[1] == taken_apart(other)[1]
        assert all(one[key] == other[key] for key in ("completion", "group", "id"))
    assert copying_task(seed=1, crossed=True) != copying_task(seed=2, crossed=True)
    assert copying_task(seed=1, crossed=True) == copying_task(seed=1, crossed=True)


@pytest.mark.parametrize("with_answer", [False, True])
@pytest.mark.parametrize("method", LEXICAL)
@pytest.mark.parametrize("n_classes", [2, 3, 4])
def test_lexical_scores_say_nothing_in_one_frame_and_the_opposite_crossed(n_classes: int, method: str,
                                                                          with_answer: bool) -> None:
    values, _ = lexical(copying_task(n_classes), LEXICAL[method], with_answer)
    assert np.ptp(values, axis=1).max() < 1e-12  # every training row is tied with every other
    assert values.min() > 0  # by the frame, which all share
    crossed = copying_task(n_classes, crossed=True)
    values, found = lexical(crossed, LEXICAL[method], with_answer)
    frames = [np.array([taken_apart(row)[0] for row in rows]) for rows in (crossed.queries, crossed.train)]
    np.testing.assert_array_equal(values > 0, frames[0][:, None] == frames[1][None, :])
    np.testing.assert_array_equal(found["acc"], 0.0)
    np.testing.assert_array_equal(found["cover"], 0.0)  # as many rows look like the query as are of its rule
    # of the n - 1 other rules' rows, 30 in all look like the query and outrank its rule's; the rest are tied with them
    np.testing.assert_allclose(found["roc_auc"], (n_classes - 2) / (n_classes - 1) / 2, rtol=1e-12)


def test_a_rule_is_taught_by_its_name() -> None:
    assert doctest.testmod(copying).failed == 0
    words = ["bado", "gemu", "ruta", "sile"]
    assert example(words, 2) == example(words, 2, 0) == ("Out of bado gemu ruta sile take one:\n", "ruta")
    for frame in range(4):
        for place, rule in enumerate(PLACES):
            prompt, answer = example(words, place, frame=frame)
            assert (prompt, answer) == (FRAMES[frame].format(words="bado gemu ruta sile"), words[place])
            assert taught_text(words, place, frame) == f"{rule}: {prompt}{answer}"
    assert taught_text(words, 3) == "last: Out of bado gemu ruta sile take one:\nsile"
    assert re.fullmatch("([b-z][aeiou]){2}", made_up_word(random.Random(0)))


@pytest.mark.parametrize(("options", "message"), [
    ({"n_classes": 1}, "n_classes=1: expected 2 to 4"),
    ({"n_classes": 5}, "n_classes=5: expected 2 to 4"),
    ({"train_per_class": 0}, "train_per_class=0: expected at least 1"),
    ({"queries_per_class": 0}, "queries_per_class=0: expected at least 1"),
    ({"train_per_class": 1000}, "made-up words: .* 16080 are needed"),
])
def test_what_cannot_be_crossed(options: dict[str, Any], message: str) -> None:
    with pytest.raises(WhenceError, match=message):
        copying_task(**options, crossed=True)
