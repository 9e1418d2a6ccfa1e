"""What the cells of a study would cost, before anything is made.

A small model's pass is mostly the overhead of its layers, a large one's its multiplications, so a pass over some tokens
is taken to last

    layers x (time of an idle layer) + 2 x weights x tokens / (multiplications a second)      x 3 with a backward pass

with both constants measured here and now on one thread. What there is already is not counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import rich.box
import rich.table
import torch

from whence.study.cell import KINDS, Cell, with_needs

LAYER_CALLS = 60  # small operations of a layer, forward and backward, about


@dataclass(frozen=True)
class Work:
    """Passes over batches.

    Attributes:
        passes: forward and backward passes.
        layers: of the model.
        tokens: of a batch.
        weights: of the model.
        extra: seconds besides.
    """

    passes: float | int
    layers: int
    tokens: float | int
    weights: float | int
    extra: float = 0.0

    def seconds(self) -> float:
        """On one thread of this machine, about."""
        call, rate = speed()
        return self.passes * (self.layers * LAYER_CALLS * call + 6 * self.weights * self.tokens / rate) + self.extra


@cache
def speed() -> tuple[float, float]:
    """(seconds of a small operation, multiplications and additions a second), measured on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        small, large = torch.ones(8, 64), torch.ones(768, 768)
        return _fastest(lambda: small @ small.T + 1, 300) / 2, 2 * 768**3 / _fastest(lambda: large @ large, 5)
    finally:
        torch.set_num_threads(threads)


def _fastest(run: Callable[[], object], times: int) -> float:
    """Seconds of one of `times` calls, the best of three rounds."""
    rounds = []
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(times):
            run()
        rounds.append((time.perf_counter() - start) / times)
    return min(rounds)


@dataclass(frozen=True)
class Cost:
    """What one kind of cell comes to.

    Attributes:
        cells, done: of the study, and those already there.
        seconds: of those that are missing, on one thread.
    """

    cells: int
    done: int
    seconds: float


def cost_of(cells: Sequence[Cell], is_done: Callable[[Cell], bool]) -> dict[str, Cost]:
    """By kind, in the order in which they are first needed."""
    found: dict[str, Cost] = {}
    for cell in with_needs(cells):
        so_far = found.get(cell.kind, Cost(0, 0, 0.0))
        done = is_done(cell)
        seconds = 0.0 if done else KINDS[cell.kind].cost(cell).seconds()
        found[cell.kind] = Cost(so_far.cells + 1, so_far.done + done, so_far.seconds + seconds)
    return found


def cost_table(costs: dict[str, Cost], workers: int, out: Path) -> rich.table.Table:
    """For a terminal."""
    table = rich.table.Table(box=rich.box.SIMPLE, title=f"cells in {out}", caption=(
        f"about {_minutes(sum(cost.seconds for cost in costs.values()) / workers)} with {workers} workers of one "
        "thread; an estimate from a few operations timed just now, good to a factor of two"))
    for name in ("kind", "cells", "there already", "one thread"):
        table.add_column(name, justify="left" if name == "kind" else "right")
    for kind, cost in costs.items():
        table.add_row(kind, f"{cost.cells:,}", f"{cost.done:,}", _minutes(cost.seconds))
    return table


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 100 else f"{seconds / 60:.0f} min"
