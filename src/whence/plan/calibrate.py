"""How long things take here: a few real batches through each pass, one real decomposition, one query solved.

A pass is timed from batch to batch, so that what comes once (hooks, first touches) does not count; its time is then
seconds per multiply-add x multiply-adds, over batches drawn from the beginning, middle and end of the real ones. Linear
algebra is run once at each size that occurs (the largest at a limit, from where it grows with the cube).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whence.curvature.kronecker import Curvature
from whence.data.batch import plan_batches
from whence.data.examples import Examples
from whence.measure.labels import SampledLabels
from whence.plan.algebra import eigh_seconds, gram_seconds, method_seconds, solve_seconds
from whence.plan.flops import product_macs
from whence.plan.phases import BASES, EIGENVALUES, EIGH, GRAM, METHOD, PRODUCTS, QUERIES, SOLVE, TRAIN, Draft
from whence.plan.probe import Probe
from whence.plan.resident import peak_resident
from whence.plan.workload import BatchShape, Count, Rows, Workload, numbered, shapes
from whence.sweep.basis import Basis
from whence.sweep.capture import Captured
from whence.sweep.covariance import CovarianceSink
from whence.sweep.eigenvalues import EigenvalueSink
from whence.sweep.gram import DotSink, GradientStore
from whence.sweep.products import ProductSink
from whence.sweep.rotated import RotatedStore
from whence.sweep.shampoo import ShampooSink
from whence.sweep.sweep import GradientSink, Layout, sweep
from whence.sweep.vectors import Full, LowRank, Vectors

TIMED = 2  # batches of a pass that are timed, after one that is not
WARM = 3  # batches of a plain sweep
FIRST = 3  # of the budget that goes to it, one in so many
LEAST = 3  # of a real batch, whatever the budget, one part in so many
SHARE = 5  # of the budget that goes to one pass, one in so many
LIBRARY_BYTES = 64 << 20  # code and scratch of the libraries, which the first batches bring in
VECTOR_BYTES = 1 << 30  # of query vectors that are made to time the products


class Ticker:
    """A sink that notes when each batch is through."""

    def __init__(self, clock: Callable[[], float], device: torch.device) -> None:
        self.clock, self.device = clock, device
        self._stamps: dict[int, float] = {}  # by the place of the batch's first row
        self._last = -1  # the block that a batch ends with, which the first batch tells

    @property
    def ticks(self) -> list[float]:
        """When each batch was through."""
        return list(self._stamps.values())

    def update(self, share: Captured) -> None:
        """Stamp a batch at its last block."""
        if share.at.start == 0:
            self._last = share.block
        if share.block == self._last:
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            self._stamps[share.at.start] = self.clock()

    def finish(self, order: np.ndarray) -> None:
        """Nothing is put in order."""


@dataclass
class Calibration:
    """Times things, within a budget of seconds.

    Attributes:
        work, probe: what is planned.
        layout: that of the run.
        budget: seconds, about.
        clock: wall time, or CPU time on a machine that is shared with others.
        before: bytes that the process held with the model and the data.
        speed: multiply-adds a second of a plain sweep, once `start` has run.
    """

    work: Workload
    probe: Probe
    layout: Layout
    budget: float = 10.0
    clock: Callable[[], float] = time.perf_counter
    speed: float = 0.0
    before: int = 0
    _held: tuple[BatchShape, int] = (BatchShape(1, 1, 1), 0)
    _moments: Any = field(default=None, repr=False)

    def start(self) -> None:
        """A plain sweep of single rows, to know what can be afforded, and one of the largest batches, to see what
        they hold: an allocator takes a few of them until it has all that it will take."""
        macs = self.probe.sweep_macs
        for share in (None, FIRST):
            used = self._affordable(self.work.train, macs, share) if share else self._of(self.work.train.longest)
            sample = self._sample(self.work.train, used, WARM, spread=False)
            with peak_resident(self.work.device) as peak:
                pace = self._sweep(sample, used, macs, [], None)
            self.speed = 1 / max(pace, 1e-18)
            self._held = max(shapes(sample, used), key=self._saved), peak.bytes - self.before

    def seconds(self, draft: Draft, resident: int) -> float:
        """The time of a phase."""
        if draft.name == EIGH:
            return eigh_seconds(self.work, self._moments, self.clock)
        if draft.name == SOLVE:
            return solve_seconds(self.work, self.clock)
        if draft.name == GRAM:
            return gram_seconds(self.work, self.clock)
        if draft.name == METHOD:
            return method_seconds(self.work, self.clock)
        if draft.rows is None or draft.work is None:
            return 0.0
        sinks = self._sinks(draft.name, draft.rows, resident)
        if sinks is None:
            return draft.macs * self._forward(draft.rows, draft.work)
        labels = self._labels() if draft.name in (BASES, EIGENVALUES) else None
        macs = draft.work
        if draft.name == PRODUCTS:  # of the vectors that are made here
            count = self._vectors(resident)

            def macs(shape: BatchShape) -> Count:
                return self.probe.sweep_macs(shape) + product_macs(self.work.blocks, count, self.work.rank, shape)

        return draft.macs * self._pace(draft.rows, macs, sinks, labels)

    def activations(self, shape: BatchShape) -> Count:
        """Bytes of a batch: what the largest batches were seen to hold, with all that an allocator keeps, in
        proportion to what the probe says is saved."""
        seen, held = self._held
        return LIBRARY_BYTES + max(held - LIBRARY_BYTES, 0) * self._saved(shape) / max(self._saved(seen), 1.0)

    def _pace(self, rows: Rows, macs: Callable[[BatchShape], Count], sinks: Callable[[int], Sequence[GradientSink]],
              labels: SampledLabels | None) -> float:
        """Seconds per multiply-add of a pass."""
        layout = self._affordable(rows, macs)
        sample = self._sample(rows, layout, 1 + TIMED)
        return self._sweep(sample, layout, macs, sinks(len(sample)), labels)

    def _sweep(self, sample: Examples, layout: Layout, macs: Callable[[BatchShape], Count],
               sinks: Sequence[GradientSink], labels: SampledLabels | None) -> float:
        """Seconds per multiply-add: the median over the batches but the first, if there is another."""
        begin = self.clock()
        ticker = Ticker(self.clock, self.work.device)
        sweep(self.work.model, sample, self.work.blocks, [*sinks, ticker], pad_id=self.work.pad_id, layout=layout,
              labels=labels, what="calibration")
        paces = np.diff([begin, *ticker.ticks]) / [macs(shape) for shape in shapes(sample, layout)]
        return float(np.median(paces[1:] if len(paces) > 1 else paces))

    def _saved(self, shape: BatchShape) -> Count:
        return self.probe.saved(shape.rows, shape.length)

    def _forward(self, rows: Rows, macs: Callable[[BatchShape], Count]) -> float:
        layout = self._affordable(rows, macs)
        sample = self._sample(rows, layout, 1)
        begin = self.clock()
        sweep(self.work.model, sample, pad_id=self.work.pad_id, layout=layout, what="calibration")
        return (self.clock() - begin) / sum(macs(shape) for shape in shapes(sample, layout))

    def _sinks(self, name: str, rows: Rows, resident: int) -> Callable[[int], Sequence[GradientSink]] | None:
        """What makes the sinks of a pass over so many rows; None for a forward pass."""
        work, blocks = self.work, self.work.blocks
        curvature = work.curvature

        def bases(count: int) -> Sequence[GradientSink]:
            self._moments = (CovarianceSink if curvature is not None and curvature.moments == "covariance"
                             else ShampooSink)(blocks, work.device, work.dtype)
            return [self._moments]

        def eigenvalues(count: int) -> Sequence[GradientSink]:
            assert curvature is not None
            return [EigenvalueSink(blocks, stand_in_bases(work, curvature, self._moments), work.device, work.dtype)]

        def products(count: int) -> Sequence[GradientSink]:
            return [ProductSink(blocks, stand_in_vectors(work, self._vectors(resident)), count)]

        def gradients(count: int) -> Sequence[GradientSink]:
            if curvature is not None:
                return [RotatedStore(blocks, stand_in_bases(work, curvature, self._moments), count, work.device,
                                     work.dtype)]
            return [GradientStore(blocks, count, work.device, work.dtype)]

        def both(count: int) -> Sequence[GradientSink]:
            queries = GradientStore(blocks, self._vectors(work.queries.count), work.device, work.dtype)
            for gradient in queries.gradients:
                gradient.fill_(1e-3)
            queries.finish(np.arange(len(queries.gradients[0])))
            return [GradientStore(blocks, count, work.device, work.dtype), DotSink(queries, count)]

        return {QUERIES: gradients, BASES: bases, EIGENVALUES: eigenvalues, PRODUCTS: products,
                TRAIN: both}.get(name)

    def _vectors(self, wanted: int) -> int:
        """As many vectors as are wanted, or as fit `VECTOR_BYTES`."""
        return wanted if self.work.rank else max(1, min(wanted, VECTOR_BYTES // (self.work.parameters
                                                                                 * self.work.dtype.itemsize)))

    def _labels(self) -> SampledLabels | None:
        curvature = self.work.curvature
        return SampledLabels(curvature.seed) if curvature is not None and curvature.labels == "sampled" else None

    def _of(self, tokens: int) -> Layout:
        return replace(self.layout, batch_tokens=tokens)

    def _affordable(self, rows: Rows, macs: Callable[[BatchShape], Count], share: int = SHARE) -> Layout:
        """The layout of the run, with smaller batches where one would take too long, or rows are too few for three."""
        longest = rows.longest
        row = macs(BatchShape(1, longest, int(rows.examples.response_lengths.max())))
        affordable = self.budget / share / (1 + TIMED) * self.speed / row
        real = self.layout.batch_tokens / longest  # much smaller batches would be slower for their size
        most = min(max(affordable, real / LEAST), min(rows.count, len(rows.examples)) / (1 + TIMED))
        return self._of(int(min(self.layout.batch_tokens, max(1, int(most)) * longest)))

    def _sample(self, rows: Rows, layout: Layout, batches: int, spread: bool = True) -> Examples:
        """Rows of some of the batches that a sweep would make, each full: from first to last, or the first."""
        plan = plan_batches(rows.examples, layout.batch_tokens, layout.batch_size)
        full = plan[:-1] or plan
        at = np.linspace(0, len(full) - 1, batches).round() if spread else np.arange(batches) % len(full)
        return numbered(rows.examples, np.concatenate([full[int(place)] for place in at]))


def stand_in_bases(work: Workload, curvature: Curvature, moments: Any) -> list[Basis]:
    """Bases of the right sizes, shared as the real ones are; products take as long with any numbers."""
    if not curvature.moments:
        return [Basis()] * len(work.blocks)
    shared: dict[int, tuple[Tensor, ...]] = {}
    found = []
    for b, block in enumerate(work.blocks):
        source = moments.source[b] if isinstance(moments, CovarianceSink) else b
        if source not in shared:
            shared[source] = _noise(block.inputs + block.bias, curvature.parts, work)
        found.append(Basis(shared[source], _noise(block.outputs, curvature.parts, work)))
    return found


def _noise(size: int, parts: int, work: Workload) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(len(piece), len(piece), generator=generator, dtype=work.dtype).to(work.device)
                 / len(piece) ** 0.5 for piece in torch.arange(size).tensor_split(min(parts, size)))


def stand_in_vectors(work: Workload, count: int) -> list[Vectors]:
    """Vectors of the right sizes, every page of them touched."""
    def full(*shape: int) -> Tensor:
        return torch.full(shape, 1e-3, dtype=work.dtype, device=work.device)

    vectors: list[Vectors] = []
    for block in work.blocks:
        wide = block.inputs + block.bias
        if work.rank:
            r = min(work.rank, block.outputs, wide)
            vectors.append(LowRank(full(count, block.outputs, r), full(count, r, wide), block.bias))
        else:
            vectors.append(Full(full(count, block.parameters), block.outputs, block.inputs))
    return vectors
