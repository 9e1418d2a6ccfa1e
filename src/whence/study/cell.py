"""`Cell`: one piece of a study, named by the hash of everything that decides its numbers.

A cell has a kind (a base model, a fine-tune, a bank, scores, ...), options, and the cells it stands on. Its key is
the content hash of these, so two experiments that need the same fine-tune share it, a changed option is another cell,
and what is there already is not made again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from whence.base.errors import WhenceError
from whence.base.hashing import hash_json
from whence.data.rows import did_you_mean

Row = dict[str, Any]
"""One number: `metric` and `value`, and of `scoring`, `method`, `step`, `damping`, `query` what applies."""


@dataclass(frozen=True)
class Cell:
    """One piece of work.

    Attributes:
        kind: a name in `KINDS`.
        options: JSON-able; everything that decides the result and is not in `needs`.
        needs: the cells whose folders it reads, in the order its kind expects.
    """

    kind: str
    options: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[Cell, ...] = ()

    @cached_property
    def key(self) -> str:
        """16 hex digits; the same on every machine."""
        return hash_json([self.kind, KINDS[self.kind].version, dict(self.options), [cell.key for cell in self.needs]])

    def folder(self, out: Path) -> Path:
        """Where it is kept."""
        return out / "cells" / f"{self.kind}-{self.key}"


@dataclass(frozen=True)
class Kind:
    """How cells of one kind are made.

    Attributes:
        run: `(options, folder, folders of the needs) -> rows`; it may leave files in its folder.
        cost: `(cell) -> Work`: the passes it takes, for an estimate.
        version: raised when the code changes what comes out, so that older results are not taken for new ones.
    """

    run: Callable[[Mapping[str, Any], Path, Sequence[Path]], list[Row]]
    cost: Callable[[Cell], Any]
    version: int = 1


KINDS: dict[str, Kind] = {}


def kind(name: str, cost: Callable[[Cell], Any],
         version: int = 1) -> Callable[[Callable[..., list[Row]]], Callable[..., list[Row]]]:
    """Register a function as a kind of cell."""

    def register(run: Callable[..., list[Row]]) -> Callable[..., list[Row]]:
        KINDS[name] = Kind(run, cost, version)
        return run

    return register


def known_kind(name: str) -> str:
    """`name`, if it is a kind.

    Raises:
        WhenceError: it is none; names the nearest.
    """
    if name not in KINDS:
        raise WhenceError(f"kind {name!r} is not known{did_you_mean(name, KINDS)}; there are "
                          f"{', '.join(sorted(KINDS))}")
    return name


def with_needs(cells: Iterable[Cell]) -> list[Cell]:
    """The cells and all they stand on, each once, what is needed before what needs it; else in the order given."""
    found: dict[str, Cell] = {}

    def add(cell: Cell) -> None:
        if cell.key not in found:
            for need in cell.needs:
                add(need)
            found[cell.key] = cell

    for cell in cells:
        add(cell)
    return list(found.values())
