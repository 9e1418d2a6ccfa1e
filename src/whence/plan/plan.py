"""`Plan`: what a method would cost, phase by phase, with the choices it was planned with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.table import Table

from whence.plan.workload import Count
from whence.sweep.sweep import Layout


@dataclass(frozen=True)
class Phase:
    """One phase.

    Attributes:
        name: what it does.
        flops: floating-point operations of its matrix products, two a multiply-add.
        memory: bytes of the process at its peak, model and data included.
        disk: bytes of the files it leaves.
        seconds: how long it takes.
        passes: sweeps over its rows.
        rows: how many rows, 0 for linear algebra.
    """

    name: str
    flops: Count
    memory: Count
    disk: int
    seconds: float
    passes: int = 0
    rows: int = 0


@dataclass(frozen=True)
class Plan:
    """All phases of a method on a model and its data.

    Attributes:
        method: as it would be asked for.
        phases: in the order they run; disk adds up, memory does not.
        batch_tokens: padded positions of a batch.
        query_blocks: passes over the training rows, for queries that are not resident together.
        queries, rows: how many.
        memory: bytes of gradients or vectors at a time: what `Run(memory=...)` takes.
        limit: bytes that the process may hold.
        start: bytes it holds with the model and the data loaded.
        device: where, with how many threads.
        calibration: seconds that planning took.
    """

    method: str
    phases: tuple[Phase, ...]
    batch_tokens: int
    query_blocks: int
    queries: int
    rows: int
    memory: int
    limit: int
    start: int
    device: str
    calibration: float

    @property
    def layout(self) -> Layout:
        """For `Run(layout=...)`."""
        return Layout(batch_tokens=self.batch_tokens)

    @property
    def seconds(self) -> float:
        """From the first phase to the last; loading the model and writing a report are not in it."""
        return sum(phase.seconds for phase in self.phases)

    @property
    def flops(self) -> Count:
        """Of all phases."""
        return sum(phase.flops for phase in self.phases)

    @property
    def disk(self) -> int:
        """Bytes of all files."""
        return sum(phase.disk for phase in self.phases)

    @property
    def peak(self) -> Count:
        """Bytes of the process at its highest."""
        return max(phase.memory for phase in self.phases)

    def to_rich(self) -> Table:
        """The phases as a table, with what was chosen below."""
        blocks = f"{self.query_blocks} pass{'es' if self.query_blocks > 1 else ''} over the training rows"
        table = Table(title=f"{self.method}: {self.queries:,} queries, {self.rows:,} training rows", box=None,
                      caption=f"batches of {self.batch_tokens:,} tokens, {blocks}; of {size(self.limit)} memory "
                              f"{size(self.start)} are taken at the start; {self.device}",
                      padding=(0, 2, 0, 0), caption_justify="left", title_justify="left")
        table.add_column("phase")
        for heading in ("rows", "FLOP", "time", "peak memory", "disk"):
            table.add_column(heading, justify="right")
        for phase in self.phases:
            passes = f"{phase.passes} x " if phase.passes > 1 else ""
            table.add_row(phase.name, f"{passes}{phase.rows:,}" if phase.rows else "", number(phase.flops),
                          duration(phase.seconds), size(phase.memory), size(phase.disk) if phase.disk else "")
        table.add_section()
        table.add_row("all", "", number(self.flops), duration(self.seconds), size(self.peak), size(self.disk))
        return table

    def to_json(self) -> dict[str, Any]:
        """Everything, JSON-able."""
        return {**{name: value for name, value in vars(self).items() if name != "phases"},
                "seconds": self.seconds, "flops": self.flops, "disk": self.disk, "peak": self.peak,
                "phases": [dict(vars(phase)) for phase in self.phases]}


def number(value: Count) -> str:
    """1.2e+12, or nothing for zero."""
    return f"{value:.2g}" if value else ""


def size(value: Count) -> str:
    """Bytes as people read them."""
    for unit, factor in (("GiB", 2**30), ("MiB", 2**20)):
        if value >= factor:
            return f"{value / factor:.1f} {unit}"
    return f"{value / 2**10:.1f} KiB"


def duration(seconds: float) -> str:
    """Seconds, minutes or hours."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
