"""`train_log.jsonl`: one line a step (step, epoch, rows, lr, loss, grad_norm, tokens), to replay it by."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from whence.base.errors import WhenceError
from whence.base.files import atomic_file

LOG_NAME = "train_log.jsonl"


def append_log(path: Path, line: dict[str, Any]) -> None:
    """Add one line; when this returns it survives the death of the process."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, allow_nan=False) + "\n")


def cut_log(path: Path, step: int) -> None:
    """Leave the lines of the first `step` steps, and nothing of a later or half-written one.

    Raises:
        WhenceError: the log holds fewer, though a checkpoint of that step exists.
    """
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    if len(lines) < step:
        raise WhenceError(f"{path}: has {len(lines)} lines, but there is a checkpoint of step {step}; "
                          "the log was changed by someone else: train into another folder")
    with atomic_file(path) as part:
        part.write_text("".join(lines[:step]), encoding="utf-8")


def read_log(run: str | Path) -> list[dict[str, Any]]:
    """The steps of a run: dictionaries of step, epoch, rows, lr, loss, grad_norm, tokens."""
    path = Path(run) / LOG_NAME
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        raise WhenceError(f"{path}: no such file; expected the folder of a training run") from None
    except json.JSONDecodeError:
        raise WhenceError(f"{path}: not a line of JSON for each step") from None
