"""What a retrain bank would cost, and how narrow its intervals would be, before anything is retrained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import rich.box
import rich.table
import torch

from whence.data.examples import Examples
from whence.models.load import load_model
from whence.train.adapter import target_names
from whence.truth.bank import Bank, default_workers
from whence.truth.member import Trainer
from whence.truth.resample import fisher_interval
from whence.truth.subsets import random_subsets

MEMBERS = (8, 16, 32, 64, 128)
CORRELATION = 0.5  # at which widths are given: those of higher ones are smaller


@dataclass(frozen=True)
class BankCost:
    """A bank of some size.

    Attributes:
        members: retrained models.
        seconds: wall time, all of them.
        half_width: half the 95 % interval of one query's rank correlation over them, where it is .5; the mean over
            queries is narrower.
        disk_bytes: of the stored weights and outcomes.
    """

    members: int
    seconds: float
    half_width: float
    disk_bytes: int


@dataclass(frozen=True)
class BankPlan:
    """Banks of several sizes.

    Attributes:
        each: seconds of one member in one process.
        workers, threads: processes at once, and threads of each.
        sizes: by number of members.
    """

    each: float
    workers: int
    threads: int
    sizes: tuple[BankCost, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def to_rich(self) -> rich.table.Table:
        """A table for the terminal."""
        table = rich.table.Table(title=f"retraining: {self.each:.3g} s a model, {self.workers} at once",
                                 title_justify="left", box=rich.box.SIMPLE)
        for name in ("models", "time", "interval of a correlation of .5", "disk"):
            table.add_column(name, justify="right")
        for size in self.sizes:
            table.add_row(str(size.members), duration(size.seconds), f"± {size.half_width:.2f}",
                          f"{size.disk_bytes / 2**20:.1f} MiB")
        return table


def plan_bank(bank: Bank, queries: Examples, members: Sequence[int] = MEMBERS, *, workers: int | None = None,
              threads: int = 1, device: str | None = None, seconds: float = 10.0) -> BankPlan:
    """Time a few steps of one member, and foretell banks of several sizes.

    Processes beside each other slow each other down a little; that is not foretold.

    Args:
        workers, threads, device: as for `Bank.outcomes`.
        seconds: of calibration, about.

    Raises:
        WhenceError: a base that cannot be loaded.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        loaded = load_model(bank.base, dtype=torch.float32, device=device)
        trainer = Trainer(loaded.model, bank.train, queries, bank.recipe,  # type: ignore[arg-type]
                          loaded.tokenizer.pad_token_id or 0)
        each = trainer.foretell(random_subsets(len(bank.train), 1)[0], seconds)
    finally:
        torch.set_num_threads(before)
    at_once = workers or default_workers(threads, device)
    model: Any = loaded.model
    if bank.recipe.tune == "full":
        numbers = sum(p.numel() for p in model.parameters())
    else:
        adapted = [model.get_submodule(name).weight for name in target_names(model, bank.recipe.targets)]
        numbers = bank.recipe.rank * sum(sum(weight.shape) for weight in adapted)
    weights = 4 * numbers
    stored = (weights if bank.keep_weights else 0) + 16 * len(queries) + len(bank.train)
    return BankPlan(each, at_once, threads, tuple(
        BankCost(count, each * -(-count // min(at_once, count)), half_width(count), stored * count)
        for count in members))


def half_width(members: int, correlation: float = CORRELATION) -> float:
    """Half the 95 % interval of a rank correlation over so many members (Bonett & Wright 2000); 1 for fewer than 4."""
    low, high = fisher_interval(correlation, members)
    return (high - low) / 2


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`."""
    return (f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min" if seconds < 5400
            else f"{seconds / 3600:.1f} h")

