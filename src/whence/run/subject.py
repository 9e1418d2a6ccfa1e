"""What is attributed: the model, its blocks, how it is swept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from torch import nn

from whence.curvature.fit import Situation
from whence.curvature.store import Store
from whence.data.examples import Examples
from whence.measure.measurement import Measurement
from whence.models.blocks import Block
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
