"""What is attributed: the model, its blocks, how it is swept."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from torch import nn

from whence.curvature.collect import free_memory
from whence.curvature.fit import Situation
from whence.curvature.store import Store
from whence.data.examples import Examples
from whence.measure.measurement import Measurement
from whence.models.blocks import Block
from whence.sweep.precision import LIMIT, Precision, check_precision, rounded
from whence.sweep.sweep import Layout


@dataclass(frozen=True)
class Subject:
    """The model whose behaviour is attributed, and how it is swept."""

    model: nn.Module
    blocks: Sequence[Block]
    pad_id: int
    layout: Layout
    measurement: Measurement
    base: Callable[[], AbstractContextManager[nn.Module]]  # the model before the fine-tune
    memory: int | None = None  # bytes for gradients; None: half of what is free

    def situation(self, train: Examples, store: Store) -> Situation:
        """What fits and solvers look at."""
        return Situation(self.model, train, self.blocks, self.pad_id, self.layout, store)

    def precision(self, train: Examples) -> Precision | None:
        """What 16 bits do to the gradients of the first rows, with a warning if that is much; None in 32 bits.

        Where the weights do not fit once more in float32, a warning says so and nothing is looked at.
        """
        if not rounded(self.model, self.layout):
            return None
        need = sum(4 * p.numel() for p in self.model.parameters() if p.is_floating_point() and p.element_size() < 4)
        if need > (free := free_memory(self.model)):
            warnings.warn(f"16 bits were not checked against float32: the weights take {need / 2**30:.1f} GiB there, "
                          f"and {free / 2**30:.1f} GiB are free", stacklevel=3)
            return None
        found = check_precision(self.model, train, self.blocks, self.layout, self.pad_id)
        if not found.enough:
            warnings.warn(f"{found}; more than {LIMIT:.0%}: use float32", stacklevel=3)
        return found
