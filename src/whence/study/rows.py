"""The rows of a study's task: from the built-in generators, or from files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from whence.base.errors import WhenceError
from whence.base.hashing import hash_json
from whence.tasks.synthetic import TASKS, make_task
from whence.tasks.task import Task, class_task

FILE_FIELDS = ("train", "queries", "columns", "between", "hash", "keep")


def task_rows(options: Mapping[str, Any], seed: int) -> Task:
    """The task that `options` name: `make` (a generator with its options) or `train` and `queries` (files).

    `keep` names the groups whose training rows stay; `between` is written after each prompt of a file. The seed is the
    generator's; files have the same rows for each.

    Raises:
        WhenceError: no such generator, option, file or group; files that changed since the study was expanded.
    """
    left = {name: value for name, value in options.items() if name != "keep"}
    if "make" in left:
        name = left.pop("make")
        task = make_task(name, **left, **({"seed": seed} if "seed" not in left else {}))
    else:
        if left.get("hash") not in (None, content_hash(left)):
            raise WhenceError(f"{left['train']}: it or the queries changed since the study began; start it anew")
        task = class_task(left["train"], left["queries"], columns=left.get("columns"), name=Path(left["train"]).stem)
        for row in [*task.train, *task.queries]:
            row["prompt"] += left.get("between", "")
    if "keep" in options:
        kept = [row for row in task.train if row["group"] in options["keep"]]
        if not kept:
            raise WhenceError(f"task {task.name}: no training row is of the groups {', '.join(options['keep'])}; there "
                              f"are {', '.join(sorted(set(task.train_groups)))}")
        task = replace(task, train=kept, queries=[row for row in task.queries if row["group"] in options["keep"]]
                       or task.queries, relevant=_nothing)
    return task


def check_task(options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The options with the hash of the files that they name; refuses what is no task.

    Raises:
        WhenceError: names the place.
    """
    if "make" in options:
        if options["make"] not in TASKS:
            raise WhenceError(f"{where}: no generator {options['make']!r}; there are {', '.join(TASKS)}")
        return dict(options)
    if missing := [name for name in ("train", "queries") if name not in options]:
        raise WhenceError(f"{where}: has no {missing[0]!r}; a task is `make: GENERATOR` with its options, or "
                          "`train: FILE` and `queries: FILE`")
    if unknown := [name for name in options if name not in FILE_FIELDS]:
        raise WhenceError(f"{where}: no option {unknown[0]!r}; expected some of {', '.join(FILE_FIELDS)}")
    return {**options, "hash": content_hash(options)}


def content_hash(options: Mapping[str, Any]) -> str:
    """Hash of the two files of a task."""
    try:
        return hash_json([Path(options[name]).read_bytes().hex() for name in ("train", "queries")])
    except OSError as error:
        raise WhenceError(f"{error.filename}: cannot be read ({error.strerror})") from None


def _nothing(train_groups: Sequence[str], query_groups: Sequence[str]) -> Bool[np.ndarray, "queries train"]:
    """Of rows that are only trained on: none is relevant to any query."""
    return np.zeros((len(query_groups), len(train_groups)), dtype=bool)
