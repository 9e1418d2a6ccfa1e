"""Fit a curvature: one pass for the bases, one for the eigenvalues in them, each kept as soon as it is whole.

A pass costs a forward and a backward to activations on the rows of the sample, plus its sink. Nothing downstream
depends on the number of rows, so the sample is the way to a cheaper fit: see `default_rows`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from whence.base.errors import WhenceError
from whence.base.hashing import hash_json
from whence.curvature.kronecker import BlockCurvature, Curvature, eigenvectors
from whence.curvature.store import MemoryStore, Store, Tensors
from whence.data.examples import Examples
from whence.measure.labels import SampledLabels
from whence.models.blocks import Block
from whence.sweep.basis import Basis
from whence.sweep.covariance import CovarianceSink
from whence.sweep.eigenvalues import EigenvalueSink
from whence.sweep.resume import Keeper
from whence.sweep.shampoo import ShampooSink
from whence.sweep.sweep import GradientSink, Layout, sweep

TOKENS_PER_DIMENSION, MOST_DRAWS = 32, 16


@dataclass(frozen=True)
class Fitted:
    """A curvature, its `draws` as they were made, fitted on some rows."""

    curvature: Curvature
    blocks: tuple[BlockCurvature, ...]
    rows: int


@dataclass(frozen=True)
class Situation:
    """A model with its training rows and the blocks that count: all that a fit or a solver may look at.

    Attributes:
        model, train, blocks: what is attributed.
        pad_id, layout: how rows become batches.
        store: keeps fits; by default as long as the situation.
    """

    model: nn.Module
    train: Examples
    blocks: Sequence[Block]
    pad_id: int = 0
    layout: Layout = field(default_factory=Layout)
    store: Store = field(default_factory=MemoryStore)

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """What gradients and factors are kept in: float32, or float64 for a float64 model."""
        return torch.promote_types(next(self.model.parameters()).dtype, torch.float32)

    def fit(self, curvature: Curvature) -> Fitted:
        """The curvature of every block: from the store, or fitted now.

        Raises:
            WhenceError: a covariance is not finite (names the block).
        """
        rows = sample_rows(self.train, self.blocks, curvature)
        draws = label_draws(curvature, default_rows(self.train, self.blocks), len(rows), len(self.train))
        curvature = replace(curvature, draws=draws)
        factors = self._bases(curvature, rows) if curvature.moments else {}
        bases = _bases(factors, len(self.blocks), self.device)
        if curvature.corrected:
            factors = self._eigenvalues(curvature, rows, bases)
        return Fitted(curvature, tuple(BlockCurvature(block.name, bases[b], factors[f"{b}/eigenvalues"].to(self.device))
                                       for b, block in enumerate(self.blocks)), len(rows))

    def _eigenvalues(self, curvature: Curvature, rows: np.ndarray, bases: Sequence[Basis]) -> Tensors:
        """Second moments in the bases, `B/eigenvalues`."""
        name = f"{curvature.kind}-{_key(curvature, rows)}"
        if (stored := self.store.get(name)) is not None:
            return stored
        sink = EigenvalueSink(self.blocks, bases, self.device, self.dtype)
        self._pass(sink, curvature, rows, "eigenvalues")
        count = len(rows) * curvature.draws
        factors = {f"{b}/eigenvalues": moment / count for b, moment in enumerate(sink.moments)}
        for b, block in enumerate(self.blocks):
            if not bool(torch.isfinite(factors[f"{b}/eigenvalues"]).all()):
                raise WhenceError(f"the curvature of block {block.name!r} is not finite: check the weights and the "
                                  "data type")
        self.store.put(name, factors)
        return factors

    def _bases(self, curvature: Curvature, rows: np.ndarray) -> Tensors:
        """Bases and the uncorrected eigenvalues, `B/a0 .. B/s0 .. B/eigenvalues`; shared by `kfac` and `ekfac`."""
        name = f"{curvature.moments}-{_key(curvature, rows)}"
        if (stored := self.store.get(name)) is not None:
            return stored
        make = CovarianceSink if curvature.moments == "covariance" else ShampooSink
        sink = make(self.blocks, self.device, self.dtype)
        self._pass(sink, curvature, rows, "covariances")
        shared, count = isinstance(sink, CovarianceSink), len(rows) * curvature.draws
        inputs: dict[int, tuple[tuple[Tensor, ...], Tensor]] = {}
        factors: Tensors = {}
        for b, block in enumerate(self.blocks):
            source = sink.source[b] if isinstance(sink, CovarianceSink) else b
            if source not in inputs:
                inputs[source] = eigenvectors(sink.inputs[source], curvature.parts, f"block {block.name!r}")
            vectors, values = eigenvectors(sink.outputs[b], curvature.parts, f"block {block.name!r}")
            if isinstance(sink, CovarianceSink):
                scale = 1 / (count * max(int(sink.tokens[source]), 1))
            else:  # L (x) R / tr, each of the three a sum over rows
                scale = 1 / (count * max(float(values.sum()), torch.finfo(torch.float64).tiny))
            factors[f"{b}/eigenvalues"] = self._kept(scale * torch.outer(values, inputs[source][1]))
            factors |= {f"{b}/s{i}": self._kept(Q) for i, Q in enumerate(vectors)}
            if source == b:
                factors |= {f"{b}/a{i}": self._kept(Q) for i, Q in enumerate(inputs[source][0])}
            elif shared:
                factors[f"{b}/source"] = torch.tensor(source)
        self.store.put(name, factors)
        return factors

    def _kept(self, tensor: Tensor) -> Tensor:
        """In the layout a store gives back: strides choose a product's kernel, and so its last bits."""
        return tensor.to(dtype=self.dtype, device=self.device).contiguous()

    def _pass(self, sink: GradientSink, curvature: Curvature, rows: np.ndarray, what: str) -> None:
        labels = SampledLabels(curvature.seed, len(rows)) if curvature.labels == "sampled" else None
        path = self.store.path(f"{what}-{curvature.kind}-{_key(curvature, rows)}")
        sweep(self.model, self.train.select(rows).over(curvature.draws), self.blocks, [sink], pad_id=self.pad_id,
              layout=self.layout, labels=labels, what=f"{curvature.kind}: {what} of {len(rows)} rows",
              keeper=Keeper(path) if path else None)


def sample_rows(train: Examples, blocks: Sequence[Block], curvature: Curvature) -> np.ndarray:
    """Indices of the rows a curvature is fitted on, ascending."""
    wanted = default_rows(train, blocks) if curvature.rows == 0 else curvature.rows
    if wanted == -1 or wanted >= len(train):
        return np.arange(len(train))
    return np.sort(np.random.default_rng(curvature.seed).permutation(len(train))[:wanted])


def default_rows(train: Examples, blocks: Sequence[Block]) -> int:
    """As many rows as bring `TOKENS_PER_DIMENSION` tokens for each dimension of the widest factor.

    A covariance of n dimensions is known once it has seen many times n tokens; more rows cost time and change
    little (see the plot in benchmarks/README.md).
    """
    widest = max(max(block.inputs + block.bias, block.outputs) for block in blocks)
    tokens = max(float(np.mean(train.lengths)), 1.0)
    return max(1, int(np.ceil(TOKENS_PER_DIMENSION * widest / tokens)))


def label_draws(curvature: Curvature, wanted: int, used: int, there: int) -> int:
    """Labels drawn for each token: as asked for; by default one, and where all rows together are too few, as many as
    make up for it, at most `MOST_DRAWS`.

    So the fit of a small fine-tune costs less than twice that of a large one. On one of 120 rows of 16 tokens, 4 draws
    raised EK-FAC's LDS from .58 to .67, and 16 to .69.

    Args:
        wanted: rows that would be enough (`default_rows`).
        used: rows that it is fitted on.
        there: all rows.
    """
    if curvature.draws or curvature.labels == "empirical":
        return curvature.draws or 1
    return 1 if used < there else min(MOST_DRAWS, max(1, -(-wanted // used)))


def _key(curvature: Curvature, rows: np.ndarray) -> str:
    more = [curvature.draws] if curvature.draws > 1 else []
    return hash_json([curvature.labels, curvature.seed, curvature.parts, rows.tolist(), *more])


def _bases(factors: Tensors, count: int, device: torch.device) -> list[Basis]:
    """The basis of every block; blocks with the same inputs hold the very same tuple, by which sinks see it."""
    def parts(prefix: str) -> tuple[Tensor, ...]:
        names = sorted((name for name in factors if name.startswith(prefix) and name[len(prefix) :].isdigit()),
                       key=lambda name: int(name[len(prefix) :]))
        return tuple(factors[name].to(device) for name in names)

    inputs: dict[int, tuple[Tensor, ...]] = {}
    for b in range(count):
        source = int(factors.get(f"{b}/source", torch.tensor(b)))
        inputs[b] = inputs[source] if source != b else parts(f"{b}/a")
    return [Basis(inputs[b], parts(f"{b}/s")) for b in range(count)]
