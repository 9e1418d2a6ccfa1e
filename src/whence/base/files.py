"""Atomic writing: a file or folder is written beside its place and renamed when whole."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from whence.base.errors import WhenceError


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on a clean exit it becomes `path`, on an error it is gone.

    Raises:
        WhenceError: `path` is a folder, or its own folder cannot be made.
    """
    path = Path(path)
    if path.is_dir():
        raise WhenceError(f"{path}: a folder; expected the name of a file")
    part = _beside(path)
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on a clean exit it replaces `path`, on an error it is gone.

    What it replaces is moved aside before it is removed, so that a folder at `path` is always whole.

    Raises:
        WhenceError: `path` is a file, or its own folder cannot be made.
    """
    path = Path(path)
    if path.is_file():
        raise WhenceError(f"{path}: a file; expected the name of a folder")
    part = _beside(path)
    replaced = part.with_suffix(".old")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir()
    try:
        yield part
        if path.exists():
            shutil.rmtree(replaced, ignore_errors=True)
            path.rename(replaced)
        part.rename(path)
        shutil.rmtree(replaced, ignore_errors=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _beside(path: Path) -> Path:
    """The temporary path of this process for `path`, in the same folder, which is made."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WhenceError(f"{path}: its folder cannot be made ({error.strerror}: {error.filename})") from None
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def write_json(path: str | Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; NaN and infinity are refused."""
    with atomic_file(path) as part:
        part.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """Read JSON; a missing, unreadable or broken file is a `WhenceError` that names it."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise WhenceError(f"{path}: no such file") from None
    except OSError as error:
        raise WhenceError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise WhenceError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise WhenceError(f"{path}: not valid JSON (line {error.lineno}: {error.msg})") from None
