"""`Task`: a labelled question to attribution: for these queries, which training rows should come first?

Three kinds, after "Do Influence Functions Work on Large Language Models?" (arXiv 2409.19998). With g(j) the
group of training row j and g(q) that of query q, the row is relevant to the query where

    class      g(j) = g(q)
    harmful    (g(j) is the positive label) = (g(q) is the positive label)
    backdoor   g(j) = g(q); one group is the clean one, every other is a trigger

The published harmful sets hold positive queries only, so one row that outscores all others decides the
result; the rule above also says what is right for other queries (the rows that are not positive), so they may
be added.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

import numpy as np
from jaxtyping import Bool

from whence.base.errors import WhenceError
from whence.data.formats import recognise, render_completion, render_text
from whence.data.read import read_rows
from whence.tasks.labels import check_known, relevance

Kind = Literal["class", "harmful", "backdoor"]
Row = dict[str, str]
Relevance = Callable[[Sequence[str], Sequence[str]], np.ndarray]
T = TypeVar("T")
MISSES = 1000  # draws in a row that gave nothing new before the vocabulary counts as used up


@dataclass(frozen=True)
class SameGroup:
    """Class attribution: relevant = same group."""

    def __call__(self, train_groups: Sequence[str],
                 query_groups: Sequence[str]) -> Bool[np.ndarray, "queries train"]:
        check_known(train_groups, query_groups)
        return _checked(relevance(train_groups, query_groups), query_groups)


@dataclass(frozen=True)
class SamePositive:
    """Harmful-example identification: relevant = both have the positive label, or neither has."""

    positive: str

    def __call__(self, train_groups: Sequence[str],
                 query_groups: Sequence[str]) -> Bool[np.ndarray, "queries train"]:
        for name, groups in (("training rows", train_groups), ("queries", query_groups)):
            _need(self.positive, "positive", name, groups)
        check_known(train_groups, query_groups)
        train = np.array([group == self.positive for group in train_groups], dtype=bool)
        query = np.array([group == self.positive for group in query_groups], dtype=bool)
        return _checked(query[:, None] == train[None, :], query_groups)


@dataclass(frozen=True)
class SameTrigger:
    """Backdoor identification: relevant = same trigger; for a clean query, the clean rows."""

    clean: str

    def __call__(self, train_groups: Sequence[str],
                 query_groups: Sequence[str]) -> Bool[np.ndarray, "queries train"]:
        _need(self.clean, "clean", "training rows", train_groups)
        if set(query_groups) <= {self.clean}:
            raise WhenceError(f"no query carries a trigger: all {len(query_groups)} have the clean label "
                              f"{self.clean!r}; add some, or name the clean label with clean=LABEL")
        check_known(train_groups, query_groups)
        return _checked(relevance(train_groups, query_groups), query_groups)


@dataclass(frozen=True)
class Task:
    """Training rows, queries, and what is relevant.

    Attributes:
        name: what a table calls it.
        kind: class, harmful or backdoor.
        train, queries: rows with `prompt`, `completion`, `group` and `id`, as `read_rows` takes them.
        relevant: `(groups of N training rows, groups of Q queries) -> bool [Q, N]`; refuses labels that make
            no task.
    """

    name: str
    kind: Kind
    train: list[Row]
    queries: list[Row]
    relevant: Relevance

    def __post_init__(self) -> None:
        self.relevance()  # labels that make no task are refused here, before anything is trained

    @property
    def train_groups(self) -> list[str]:
        """The label of each training row."""
        return [row["group"] for row in self.train]

    @property
    def query_groups(self) -> list[str]:
        """The label of each query."""
        return [row["group"] for row in self.queries]

    def relevance(self) -> Bool[np.ndarray, "queries train"]:
        """Entry [q, j]: training row j is relevant to query q."""
        return self.relevant(self.train_groups, self.query_groups)


def class_task(train: object, queries: object, *, columns: Mapping[str, str] | None = None,
               name: str = "class") -> Task:
    """Which training rows are of the query's class?

    Args:
        train, queries: anything `read_rows` reads (a path, a `datasets.Dataset`, a list of dicts), in
            prompt + completion or text format, each row with a `group`; `id` defaults to the row's index.
        columns: our field -> their column, for both: `{"prompt": "prompts", "group": "variation"}`.

    Raises:
        WhenceError: a row without a label, a query label that no training row has, one class only, rows that
            cannot be read.
    """
    return Task(name, "class", labelled_rows(train, columns), labelled_rows(queries, columns), SameGroup())


def harmful_task(train: object, queries: object, *, positive: str, columns: Mapping[str, str] | None = None,
                 name: str = "harmful") -> Task:
    """Which training rows taught the behaviour that the label `positive` marks? Else as `class_task`.

    Raises:
        WhenceError: also where no training row or no query has the label `positive`.
    """
    rows = labelled_rows(train, columns), labelled_rows(queries, columns)
    return Task(name, "harmful", *rows, SamePositive(positive))


def backdoor_task(train: object, queries: object, *, clean: str, columns: Mapping[str, str] | None = None,
                  name: str = "backdoor") -> Task:
    """Which training rows planted the query's trigger? Every group but `clean` is one. Else as `class_task`.

    Raises:
        WhenceError: also where no training row is clean or no query carries a trigger.
    """
    rows = labelled_rows(train, columns), labelled_rows(queries, columns)
    return Task(name, "backdoor", *rows, SameTrigger(clean))


def labelled_rows(source: object, columns: Mapping[str, str] | None = None) -> list[Row]:
    """Rows with `prompt` (empty for plain text), `completion`, `group` and `id`, whatever the source."""
    rows = read_rows(source, columns)
    kind = recognise(rows)
    if kind == "messages":
        raise WhenceError(f"{rows.source}: a task takes prompt and completion or text, and these rows are "
                          f"conversations; split each into a prompt and a completion")
    if "group" not in rows.columns:
        raise WhenceError(f"{rows.source}: no column 'group', so the rows have no labels; the columns are "
                          f"{', '.join(rows.columns)}. Name the one with the labels: group=COLUMN")
    rendered = render_text(rows) if kind == "text" else render_completion(rows, None)
    labelled = []
    for row, (text, group, name) in enumerate(zip(rendered, rows.groups(), rows.ids(), strict=True)):
        if group is None:
            raise WhenceError(f"{rows.where(row, 'group')}: has no label; give it one, or leave the row out")
        labelled.append({"prompt": text.prompt, "completion": text.response, "group": group, "id": name})
    return labelled


def draw_distinct(draw: Callable[[], T], count: int, what: str) -> list[T]:
    """`count` different results of `draw`, in the order drawn.

    Raises:
        WhenceError: `draw` gives nothing new any more: the vocabulary is too small for so many.
    """
    found: dict[T, None] = {}
    misses = 0
    while len(found) < count:
        before = len(found)
        found[draw()] = None
        misses = misses + 1 if len(found) == before else 0
        if misses == MISSES:
            raise WhenceError(f"{what}: the built-in vocabulary gives only about {before} different ones and "
                              f"{count} are needed; ask for fewer rows")
    return list(found)


def shuffled_rows(examples: list[tuple[str, str, str]], rng: random.Random, prefix: str) -> list[Row]:
    """(group, prompt, completion) to rows in random order: a row's place says nothing of its group."""
    order = rng.sample(examples, len(examples))
    return [{"prompt": prompt, "completion": completion, "group": group, "id": f"{prefix}-{i}"}
            for i, (group, prompt, completion) in enumerate(order)]


def check_sizes(**sizes: int) -> None:
    """Refuse a size below 1."""
    for name, size in sizes.items():
        if size < 1:
            raise WhenceError(f"{name}={size}: expected at least 1")


def _need(label: str, role: str, where: str, groups: Sequence[str]) -> None:
    if label not in groups:
        known = ", ".join(repr(group) for group in sorted(set(groups))[:12])
        raise WhenceError(f"none of the {len(groups)} {where} has the {role} label {label!r}; their labels: "
                          f"{known}. Correct the label with {role}=LABEL")


def _checked(relevant: Bool[np.ndarray, "queries train"],
             groups: Sequence[str]) -> Bool[np.ndarray, "queries train"]:
    """Refuse a query to which no training row is relevant, or every one: nothing could be found or missed."""
    counts = relevant.sum(axis=1)
    for what, bad in (("no training row", counts == 0), ("every training row", counts == relevant.shape[1])):
        if bad.any():
            q = int(bad.argmax())
            raise WhenceError(f"query row {q} (label {groups[q]!r}): {what} is relevant to it "
                              f"({int(bad.sum())} of {len(groups)} queries are affected); expected some "
                              f"relevant rows and some others")
    return relevant
