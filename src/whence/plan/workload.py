"""What is planned: a model, rows that stand for the training rows, rows that stand for the queries, one method.

Rows may stand for more rows than they are: a corpus of a million is planned from a sample of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch import nn

from whence.curvature.collect import gradient_dtype
from whence.curvature.fit import default_rows, label_draws, sample_rows
from whence.curvature.kronecker import Curvature
from whence.curvature.solver import Solver
from whence.data.batch import plan_batches
from whence.data.examples import Examples
from whence.methods.registry import MethodCall
from whence.models.blocks import Block
from whence.sweep.sweep import Layout

Count = int | float  # of operations or bytes: whole where it is exact


@dataclass(frozen=True)
class BatchShape:
    """`rows` rows padded to `length` positions, `counted` of which are predicted tokens that count."""

    rows: int
    length: int
    counted: int

    @property
    def tokens(self) -> int:
        """Padded positions."""
        return self.rows * self.length


@dataclass(frozen=True)
class Rows:
    """Examples that stand for `count` rows like them."""

    examples: Examples
    count: int
    _shapes: dict[Layout, list[BatchShape]] = field(default_factory=dict, repr=False, compare=False)

    @property
    def scale(self) -> float:
        """How many rows each example stands for."""
        return self.count / len(self.examples)

    @property
    def longest(self) -> int:
        """Tokens of the longest row."""
        return int(self.examples.lengths.max())

    def shapes(self, layout: Layout) -> list[BatchShape]:
        """The batches that a sweep over the examples makes."""
        if layout not in self._shapes:
            self._shapes[layout] = shapes(self.examples, layout)
        return self._shapes[layout]

    @cached_property
    def stored(self) -> int:
        """Bytes of the file that keeps them in a run, by writing it."""
        with TemporaryDirectory() as folder:
            path = Path(folder) / "examples.parquet"
            self.examples.write_parquet(path)
            return round(path.stat().st_size * self.scale)


@dataclass(frozen=True)
class Workload:
    """A model, its training rows, the queries, and the method that would be run.

    Attributes:
        model, blocks, pad_id: what is attributed and how it is padded.
        train, queries: the rows.
        call: the method.
    """

    model: nn.Module
    blocks: Sequence[Block]
    pad_id: int
    train: Rows
    queries: Rows
    call: MethodCall

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """What gradients and factors are kept in."""
        return gradient_dtype(self.model)

    @property
    def parameters(self) -> int:
        """Coordinates of a gradient, over all blocks."""
        return sum(block.parameters for block in self.blocks)

    @property
    def solver(self) -> Solver | None:
        """The solver, of a method that is one."""
        return self.call.solver

    @property
    def curvature(self) -> Curvature | None:
        """The curvature that is fitted, if any."""
        return getattr(self.solver, "curvature", None)

    @property
    def rank(self) -> int:
        """Of the resident vectors; 0 keeps them whole."""
        return int(getattr(self.solver, "rank", 0))

    @cached_property
    def fitted(self) -> Rows:
        """The rows that the curvature is fitted on."""
        curvature, train = self.curvature, self.train
        assert curvature is not None
        default = default_rows(train.examples, self.blocks)
        if train.count == len(train.examples):
            picked = sample_rows(train.examples, self.blocks, curvature)
            count = len(picked)
        else:
            wanted = curvature.rows or default
            count = train.count if wanted == -1 else min(wanted, train.count)
            picked = np.arange(min(count, len(train.examples)))
        return Rows(train.examples.select(picked), count * label_draws(curvature, default, count, train.count))


def shapes(examples: Examples, layout: Layout) -> list[BatchShape]:
    """The batches that a sweep over `examples` makes, in its order."""
    return [BatchShape(len(rows), int(examples.lengths[rows].max()), int(examples.response_lengths[rows].sum()))
            for rows in plan_batches(examples, layout.batch_tokens, layout.batch_size)]


def numbered(examples: Examples, rows: Sequence[int] | np.ndarray) -> Examples:
    """The examples at `rows`, each as often as it is named, with ids of their own."""
    ids = tuple(str(i) for i in range(len(rows)))
    picked = {name: tuple(getattr(examples, name)[int(r)] for r in rows) for name in examples.columns}
    return Examples(**{**picked, "ids": ids})
