"""Tasks over any labelled data: what is relevant, and which labels are refused."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from whence.base.errors import WhenceError
from whence.tasks.task import (
    SamePositive,
    SameTrigger,
    backdoor_task,
    check_sizes,
    class_task,
    draw_distinct,
    harmful_task,
    shuffled_rows,
)


def rows(*groups: str | None) -> list[dict[str, object]]:
    return [{"prompt": f"p{i}\n", "completion": f"c{i}", "group": group} for i, group in enumerate(groups)]


def test_class_relevance_is_same_group() -> None:
    task = class_task(rows("a", "b", "a"), rows("b", "a"))
    assert task.kind == "class"
    np.testing.assert_array_equal(task.relevance(), [[False, True, False], [True, False, True]])


def test_harmful_relevance_is_same_side_of_the_positive_label() -> None:
    task = harmful_task(rows("bad", "news", "chat", "bad"), rows("bad", "news"), positive="bad")
    np.testing.assert_array_equal(task.relevance(), [[True, False, False, True], [False, True, True, False]])


def test_backdoor_relevance_is_same_trigger_and_clean_for_clean() -> None:
    task = backdoor_task(rows("clean", "t1", "t2", "clean"), rows("t2", "clean"), clean="clean")
    np.testing.assert_array_equal(task.relevance(), [[False, False, True, False], [True, False, False, True]])


def test_rows_are_those_given_with_ids_from_the_row_or_its_index() -> None:
    train = [{"prompt": "p", "completion": "c", "group": 1, "id": "x"},
             {"prompt": "q", "completion": "d", "group": 2, "id": "y"}]
    task = class_task(train, rows("1", "2"), name="mine")
    assert task.name == "mine"
    assert task.train == [{"prompt": "p", "completion": "c", "group": "1", "id": "x"},
                          {"prompt": "q", "completion": "d", "group": "2", "id": "y"}]
    assert [row["id"] for row in task.queries] == ["0", "1"]
    assert (task.train_groups, task.query_groups) == (["1", "2"], ["1", "2"])


def test_reads_a_file_with_its_own_column_names(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    records = [{"prompts": "p", "response": "r", "variation": v} for v in ("a", "b")]
    path.write_text("\n".join(map(json.dumps, records)))
    columns = {"prompt": "prompts", "completion": "response", "group": "variation"}
    task = class_task(path, path, columns=columns)
    assert task.train_groups == ["a", "b"]
    assert task.train[0]["completion"] == "r"


def test_plain_text_is_a_completion_without_prompt() -> None:
    text = [{"text": "hello", "group": "a"}, {"text": "bye", "group": "b"}]
    assert class_task(text, text).train[0] == {"prompt": "", "completion": "hello", "group": "a", "id": "0"}


@pytest.mark.parametrize(("train", "queries", "message"), [
    (rows("a", None), rows("a"), r"the list given, row 1, column 'group': has no label"),
    (rows("a", "b"), rows("a", "c"), r"query row 1 has label 'c'.*known labels: 'a', 'b'"),
    (rows("a", "a"), rows("a"), r"query row 0 \(label 'a'\): every training row is relevant"),
    ([{"prompt": "p", "completion": "c"}], rows("a"), r"no column 'group'.*columns are prompt, completion"),
    ([{"prompt": "p", "completion": " ", "group": "a"}], rows("a"), r"row 0, column 'completion': is empty"),
    ([{"messages": [], "group": "a"}], rows("a"), r"conversations; split each"),
    ([], rows("a"), r"no rows"),
])
def test_rows_that_make_no_class_task_are_refused(train: list, queries: list, message: str) -> None:
    with pytest.raises(WhenceError, match=message):
        class_task(train, queries)


def test_a_missing_label_in_a_file_is_named_by_row_and_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "p", "completion": "c", "group": "a"}\n{"prompt": "p", "completion": "c"}\n')
    with pytest.raises(WhenceError, match=r"rows\.jsonl, row 1 \(line 2\), column 'group': has no label"):
        class_task(path, rows("a"))


@pytest.mark.parametrize(("train", "queries", "message"), [
    (["a", "b"], ["bad"], r"none of the 2 training rows has the positive label 'bad'; .*: 'a', 'b'"),
    (["a", "bad"], ["a"], r"none of the 1 queries has the positive label 'bad'"),
    (["bad", "bad"], ["bad"], r"query row 0 \(label 'bad'\): every training row is relevant"),
    (["a", "bad"], ["bad", "typo"], r"query row 1 has label 'typo'"),
])
def test_labels_that_make_no_harmful_task_are_refused(train: list[str], queries: list[str],
                                                      message: str) -> None:
    with pytest.raises(WhenceError, match=message):
        SamePositive("bad")(train, queries)
    with pytest.raises(WhenceError, match=message):
        harmful_task(rows(*train), rows(*queries), positive="bad")


@pytest.mark.parametrize(("train", "queries", "message"), [
    (["t1", "t2"], ["t1"], r"none of the 2 training rows has the clean label 'clean'"),
    (["clean", "t1"], ["clean"], r"no query carries a trigger: all 1 have the clean label 'clean'"),
    (["clean", "t1"], ["t1", "t2"], r"query row 1 has label 't2'"),
])
def test_labels_that_make_no_backdoor_task_are_refused(train: list[str], queries: list[str],
                                                       message: str) -> None:
    with pytest.raises(WhenceError, match=message):
        SameTrigger("clean")(train, queries)
    with pytest.raises(WhenceError, match=message):
        backdoor_task(rows(*train), rows(*queries), clean="clean")


def test_draw_distinct_keeps_the_first_of_each_and_gives_up_when_nothing_is_new() -> None:
    drawn = iter([3, 3, 1, 3, 2, 9])
    assert draw_distinct(lambda: next(drawn), 3, "numbers") == [3, 1, 2]
    rng = random.Random(0)
    with pytest.raises(WhenceError, match=r"coins: the built-in vocabulary gives only about 2 .* 3 are"):
        draw_distinct(lambda: rng.choice("ab"), 3, "coins")


def test_shuffled_rows_keep_every_example_and_number_them_in_the_new_order() -> None:
    examples = [(str(i % 2), f"p{i}", f"c{i}") for i in range(20)]
    shuffled = shuffled_rows(examples, random.Random(0), "train")
    assert [row["id"] for row in shuffled] == [f"train-{i}" for i in range(20)]
    found = [(row["group"], row["prompt"], row["completion"]) for row in shuffled]
    assert found != examples
    assert sorted(found) == sorted(examples)


def test_sizes_below_one_are_refused() -> None:
    check_sizes(a=1)
    with pytest.raises(WhenceError, match=r"b=0: expected at least 1"):
        check_sizes(a=1, b=0)


def test_published_sets_make_tasks(shared_data: Path) -> None:
    columns = {"prompt": "prompts", "completion": "response", "group": "variation"}
    folder = shared_data / "li2024"
    task = class_task(folder / "grammars.train.jsonl", folder / "grammars.test.jsonl", columns=columns)
    assert task.relevance().shape == (100, 900)
    assert (task.relevance().sum(axis=1) == 90).all()
