"""A score killed after any file it writes, again and again, ends with the bits of one that was never stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.run.fixtures import CopyRun
from whence.data.examples import Examples
from whence.run import factors
from whence.run.run import Run
from whence.run.stored import read_scored
from whence.scores import matrix

METHODS = ["gradient-dot", "fisher(damping=0.1)", "lissa", "repsim", "repsim(model=base)", "bm25"]


class Killed(BaseException):
    """Nothing catches it; unlike a real kill it lets `finally` run (a real one: tests/cli/test_score.py)."""


def dying_after(files: int, write: Callable[..., Any]) -> Callable[..., Any]:
    """`write` that dies in the middle of the file after the next `files`."""
    written = 0

    def dies(arrays: Any, path: Any) -> None:
        nonlocal written
        if written == files:
            path.write_bytes(b"half of a file")
            raise Killed
        write(arrays, path)
        written += 1

    return dies


def test_killed_after_every_file(copy_run: CopyRun, in_memory: Run, queries: Examples,
                                 monkeypatch: pytest.MonkeyPatch) -> None:
    expected = Run(in_memory.model, in_memory.tokenizer, in_memory.train).score(queries, METHODS)
    memory = max(block.parameters for block in in_memory.subject.blocks) * 4 * 30 * 3  # three blocks at once
    run = Run.load(copy_run("lora"), memory=memory)

    def lives_to_the_end(module: Any, files: int) -> bool:
        with monkeypatch.context() as patch:
            patch.setattr(module, "save_file", dying_after(files, module.save_file))
            try:
                run.score(queries, METHODS)
            except Killed:
                return False
            return True

    kills = 0
    while not lives_to_the_end(factors, 2):  # what is measured of the queries, and one file more
        kills += 1
        assert kills < 40 and not (run.folder / "scores").exists()
    assert kills >= 16  # K and K_v of eight blocks
    for written in range(len(METHODS)):
        (run.folder / "scores" / "queries" / "about.json").unlink()
        assert not lives_to_the_end(matrix, written)
        assert not (run.folder / "scores" / "queries" / "about.json").exists()
        assert lives_to_the_end(matrix, 99)

    scored = run.score(queries, METHODS)
    stored = read_scored(run.folder / "scores" / "queries")[1]
    for method in METHODS:
        np.testing.assert_array_equal(scored[method].values, expected[method].values)
        np.testing.assert_array_equal(stored[method].values, expected[method].values)
    for name, values in expected.measured.items():
        np.testing.assert_array_equal(scored.measured[name], values)
    assert not list(run.folder.rglob("*.part"))
