"""Make the cells of a study: in parallel processes, each with a few threads, going on where an earlier call stopped.

    OUT/cells/KIND-KEY/rows.parquet     what the cell found; written last, so a cell that has it is whole
    OUT/cells/KIND-KEY/cell.json        its kind, options, needs, seconds, versions

A cell is given to a worker as soon as what it stands on is there. One that fails does not stop the others: what does
not need it is made, and then the error names it. Killed at any instant, nothing whole is lost.
"""

from __future__ import annotations

import os
import platform
import time
import traceback
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from whence.base.errors import WhenceError
from whence.base.files import read_json, write_json
from whence.base.progress import track
from whence.study.cell import KINDS, Cell, with_needs
from whence.study.table import write_rows
from whence.truth.bank import default_workers

ROWS, ABOUT = "rows.parquet", "cell.json"


@dataclass(frozen=True)
class Failed:
    """A cell that could not be made, and why."""

    cell: Cell
    message: str
    trace: str


def is_done(cell: Cell, out: Path) -> bool:
    """Whether the cell is there, whole."""
    return (cell.folder(out) / ROWS).exists()


def make_cells(cells: Sequence[Cell], out: Path, workers: int | None = None, threads: int = 1) -> list[Failed]:
    """Make what is missing of `cells` and of all they stand on; gives those that failed.

    Args:
        workers: processes; default as many as the cores allow at `threads` each.

    Raises:
        WhenceError: the workers die (out of memory, say) without making anything.
    """
    missing = [cell for cell in with_needs(cells) if not is_done(cell, out)]
    workers = min(workers or default_workers(threads, None), max(1, len(missing)))
    failed: list[Failed] = []
    while left := [cell for cell in missing if not is_done(cell, out) and not _hopeless(cell, failed)]:
        before = len(left)
        failed += _round(left, out, workers, threads)
        after = [cell for cell in left if not is_done(cell, out) and not _hopeless(cell, failed)]
        if len(after) == before:
            raise WhenceError(f"{out}: {before} cells are missing and the workers die (out of memory?); the first is "
                              f"{left[0].folder(out).name}; fewer workers at once may do")
    return failed


def _hopeless(cell: Cell, failed: Sequence[Failed]) -> bool:
    """Whether the cell, or something it stands on, failed."""
    keys = {one.cell.key for one in failed}
    return any(one.key in keys for one in with_needs([cell]))


def _round(missing: Sequence[Cell], out: Path, workers: int, threads: int) -> list[Failed]:
    """Give every cell to a worker once what it needs is there; ends early if a worker dies."""
    waiting = {cell.key: cell for cell in missing}
    running: dict[Future[tuple[str, str] | None], Cell] = {}
    failed: list[Failed] = []
    bar = iter(track(range(len(missing)), "cells", len(missing)))
    with ProcessPoolExecutor(workers, get_context("spawn"), _start, (threads,)) as pool:
        try:
            while waiting or running:
                ready = [cell for cell in waiting.values()
                         if all(need.key not in waiting and is_done(need, out) for need in cell.needs)]
                for cell in ready[: 2 * workers - len(running)]:  # no more, so that the order given is kept
                    running[pool.submit(make_cell, cell, out)] = waiting.pop(cell.key)
                if not running:
                    break  # what waits stands on what failed
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    cell, error = running.pop(future), future.result()
                    if error:
                        failed.append(Failed(cell, *error))
                    next(bar, None)
        except BrokenProcessPool:
            return failed
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return failed


def _start(threads: int) -> None:
    torch.set_num_threads(threads)
    os.environ["WHENCE_PROGRESS"] = "0"
    import whence.study.kinds  # noqa: F401  (registers them in this process)


def make_cell(cell: Cell, out: Path) -> tuple[str, str] | None:
    """Make one cell in its folder; gives the message and the traceback of an error."""
    folder = cell.folder(out)
    folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    try:
        rows = KINDS[cell.kind].run(cell.options, folder, [need.folder(out) for need in cell.needs])
        write_json(folder / ABOUT, {
            "kind": cell.kind, "options": dict(cell.options), "needs": [need.folder(out).name for need in cell.needs],
            "seconds": time.perf_counter() - start, "threads": torch.get_num_threads(), "machine": platform.machine(),
            "versions": {name: version(name) for name in ("whence", "torch", "transformers", "peft")}})
        write_rows(folder / ROWS, rows)
    except WhenceError as error:
        return str(error), ""
    except Exception as error:  # a bug: kept with its traceback, and told at the end
        return f"{type(error).__name__}: {error}", traceback.format_exc()
    return None


def seconds_of(cell: Cell, out: Path) -> float:
    """How long the cell took."""
    return float(read_json(cell.folder(out) / ABOUT)["seconds"])


def raise_failed(failed: Sequence[Failed], out: Path) -> None:
    """An error that names the cells that failed, if any did.

    Raises:
        WhenceError: names each and why; what does not need them is there.
    """
    if failed:
        lines = [f"{one.cell.folder(out).name} ({_short(one.cell.options)}): {one.message}\n{one.trace}".rstrip()
                 for one in failed]
        raise WhenceError(f"{len(failed)} cells failed; the others are kept, and the same command goes on from "
                          "them:\n" + "\n".join(lines))


def _short(options: Any) -> str:
    return f"{dict(options)!r:.120}"
