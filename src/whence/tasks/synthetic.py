"""The built-in tasks by name: harmless, from a seed and built-in words, for demos, tests and studies."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from whence.base.errors import WhenceError
from whence.base.files import atomic_folder
from whence.data.rows import did_you_mean
from whence.tasks.arithmetic import arithmetic_task
from whence.tasks.copying import copying_task
from whence.tasks.grammar import grammar_task
from whence.tasks.marked import marked_task
from whence.tasks.task import Task
from whence.tasks.trigger import trigger_task

TASKS: dict[str, Callable[..., Task]] = {
    "grammar": grammar_task,
    "arithmetic": arithmetic_task,
    "copying": copying_task,
    "trigger": trigger_task,
    "marked": marked_task,
}
TRAIN_FILE, QUERIES_FILE = "train.jsonl", "queries.jsonl"


def make_task(name: str, **options: Any) -> Task:
    """The task of that name; the same name, options and seed give the same rows.

    Raises:
        WhenceError: no such task or option (the nearest is named), or an option the task refuses.
    """
    if name not in TASKS:
        raise WhenceError(f"no task {name!r}{did_you_mean(name, TASKS)}; there are {', '.join(TASKS)}")
    known = inspect.signature(TASKS[name]).parameters
    for option in options:
        if option not in known:
            takes = ", ".join(f"{key}={value.default}" for key, value in known.items())
            raise WhenceError(f"task {name!r} has no option {option!r}{did_you_mean(option, known)}; "
                              f"it takes {takes}")
    return TASKS[name](**options)


def write_task(task: Task, folder: str | Path) -> None:
    """Write `train.jsonl` and `queries.jsonl` into `folder`, both or neither; earlier ones are replaced.

    Raises:
        WhenceError: `folder` is a file, or holds anything else (the folder is replaced whole).
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise WhenceError(f"{folder}: is a file; name a folder to write {TRAIN_FILE} and {QUERIES_FILE} into")
    present = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if others := sorted(present - {TRAIN_FILE, QUERIES_FILE}):
        raise WhenceError(f"{folder}: holds {others[0]!r} ({len(others)} such entries), which writing would "
                          f"remove; expected a new or empty folder, or one with an earlier task")
    with atomic_folder(folder) as part:
        for name, rows in ((TRAIN_FILE, task.train), (QUERIES_FILE, task.queries)):
            lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            (part / name).write_text("".join(lines), encoding="utf-8")
