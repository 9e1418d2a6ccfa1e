"""What happens when a `whence` command is typed, without a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from whence.cli import main


@dataclass(frozen=True)
class Typed:
    """Exit code and both outputs."""

    code: int
    out: str
    err: str


class Shell:
    """`shell("score", run, "--queries", path)` is what the console script does with these words."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch, self._capsys = monkeypatch, capsys

    def __call__(self, *words: object) -> Typed:
        self._capsys.readouterr()
        self._monkeypatch.setattr(sys, "argv", ["whence", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            main()
        out, err = self._capsys.readouterr()
        code = stop.value.code
        return Typed(0 if code is None else int(code), out, err)

    def refuses(self, *words: object) -> str:
        """The message of a user's mistake: exit code 2, one line on standard error, no traceback."""
        typed = self(*words)
        assert typed.code == 2, typed
        assert typed.err.startswith("whence: ") and "Traceback" not in typed.err, typed.err
        assert typed.err.count("\n") == 1, typed.err
        return typed.err.removeprefix("whence: ").strip()


@contextmanager
def nothing_written(*folders: Path) -> Iterator[None]:
    """Fails if a file or folder in `folders` appears, goes or changes inside."""

    def state() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for folder in folders for path in folder.rglob("*")}

    before = state()
    yield
    assert state() == before
