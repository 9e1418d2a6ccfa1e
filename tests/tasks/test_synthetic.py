"""The built-in tasks by name, and writing them."""

from __future__ import annotations

from pathlib import Path

import pytest

from whence.base.errors import WhenceError
from whence.data.read import read_rows
from whence.models.build import train_tokenizer
from whence.tasks.synthetic import TASKS, make_task, write_task
from whence.tasks.task import class_task


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_small_clean_text(name: str) -> None:
    task = make_task(name)
    assert task.name == name
    train, queries = ({row["prompt"] for row in rows} for rows in (task.train, task.queries))
    assert (len(train), len(queries)) == (len(task.train), len(task.queries))  # no duplicates
    assert not train & queries
    ids = [row["id"] for row in task.train + task.queries]
    assert len(set(ids)) == len(ids)
    for row in task.train + task.queries:
        text = row["prompt"] + row["completion"]
        assert 5 <= len(text.split()) <= 30
        assert text.isascii()
        assert row["prompt"].endswith("\n")
        assert not row["prompt"][:-1].endswith((" ", "\n"))
        assert row["completion"] == row["completion"].strip() != ""
    assert task.train_groups != sorted(task.train_groups)  # a row's place says nothing of its group


@pytest.mark.parametrize("name", TASKS)
def test_a_prompt_has_the_same_tokens_alone_and_before_its_completion(name: str) -> None:
    task = make_task(name)
    tokenizer = train_tokenizer([row["prompt"] + row["completion"] for row in task.train], vocab_size=512)
    for row in task.queries:
        prompt = tokenizer(row["prompt"])["input_ids"]
        assert tokenizer(row["prompt"] + row["completion"])["input_ids"][: len(prompt)] == prompt


def test_options_are_the_generators_own() -> None:
    assert make_task("grammar", n_classes=2, seed=3) == TASKS["grammar"](n_classes=2, seed=3)


def test_unknown_names_and_options() -> None:
    with pytest.raises(WhenceError, match=r"no task 'gramar' \(did you mean 'grammar'\?\); there are gram"):
        make_task("gramar")
    with pytest.raises(WhenceError, match=r"task 'trigger' has no option 'triggers'.*takes n_triggers=1"):
        make_task("trigger", triggers=3)


def test_written_tasks_read_back_equal(tmp_path: Path) -> None:
    task = make_task("arithmetic", n_classes=2, train_per_class=5, queries_per_class=2)
    write_task(task, tmp_path / "task")
    files = tmp_path / "task" / "train.jsonl", tmp_path / "task" / "queries.jsonl"
    assert class_task(*files, name="arithmetic") == task
    assert list(read_rows(files[0]).columns) == ["prompt", "completion", "group", "id"]


def test_writing_replaces_an_earlier_task_and_nothing_else(tmp_path: Path) -> None:
    first, second = (make_task("marked", n_normal=5, seed=seed) for seed in (1, 2))
    write_task(first, tmp_path / "task")
    write_task(second, tmp_path / "task")
    written = read_rows(tmp_path / "task" / "train.jsonl").columns["prompt"]
    assert written == [row["prompt"] for row in second.train]
    (tmp_path / "task" / "thesis.tex").write_text("years of work")
    with pytest.raises(WhenceError, match=r"task: holds 'thesis\.tex' \(1 such entries\), which writing"):
        write_task(first, tmp_path / "task")
    assert (tmp_path / "task" / "thesis.tex").read_text() == "years of work"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["task"]  # no temporary folder is left


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(WhenceError, match=r"file: is a file; name a folder"):
        write_task(make_task("marked", n_normal=5), tmp_path / "file")
