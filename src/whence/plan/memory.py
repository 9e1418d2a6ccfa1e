"""Bytes that each phase holds at its peak, beside the process as it is with the model and the data loaded.

Exact for what is kept (gradients, vectors, factors, products); activations come from the probe or from what was
measured. Shapes: Q queries resident, P coordinates of a gradient, N rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from whence.curvature.kronecker import Curvature
from whence.models.blocks import Block
from whence.plan.flops import area, parts_of
from whence.plan.probe import Probe
from whence.plan.workload import BatchShape, Count, Workload
from whence.sweep.head import CHUNK_BYTES as HEAD_BYTES
from whence.sweep.workspace import CHUNK_BYTES

HEAD_COPIES = 5  # a chunk of logits: itself, its softmax, the gradients of both, what the measurement keeps
WORK = 6  # matrices of the size of a factor, float64, that an eigendecomposition holds: two of its input, the
# vectors, and twice as much for divide and conquer
TRANSIENT = 1.0  # of the activations: what is alive only while it is made, and what an allocator leaves in between


def activation_bytes(probe: Probe, shape: BatchShape, device: str) -> Count:
    """Of a batch on its way forward and back, with the inputs of the blocks of the batch before it."""
    return (1 + TRANSIENT) * probe.saved(shape.rows, shape.length) + HEAD_COPIES * HEAD_BYTES.get(
        device, HEAD_BYTES["cuda"])


@dataclass(frozen=True)
class Sizes:
    """Bytes of what the phases of a workload hold.

    Attributes:
        work: the workload.
        probe: says which blocks share their inputs.
        shape: the largest batch.
    """

    work: Workload
    probe: Probe
    shape: BatchShape

    @property
    def item(self) -> int:
        """Bytes of a number."""
        return self.work.dtype.itemsize

    @property
    def chunk(self) -> int:
        """A kept piece of scratch memory."""
        return CHUNK_BYTES.get(self.work.device.type, CHUNK_BYTES["cuda"])

    def vectors(self, queries: int) -> int:
        """Whole gradients of some queries."""
        return queries * self.work.parameters * self.item

    def solved(self, queries: int) -> int:
        """Resident vectors: whole, or as low-rank factors."""
        if not self.work.rank:
            return self.vectors(queries)
        return queries * self.item * sum(min(self.work.rank, out, wide) * (out + wide)
                                         for out, wide in _sizes(self.work.blocks))

    def largest(self, queries: int) -> int:
        """Gradients of some queries at the largest block."""
        return queries * self.item * max(block.parameters for block in self.work.blocks)

    def moments(self, curvature: Curvature) -> int:
        """A and S, or L and R, of every block, whole."""
        return self._factors(curvature, whole=True) * self.item

    def bases(self, curvature: Curvature) -> int:
        """Eigenvectors of every block, by parts."""
        return self._factors(curvature, whole=False) * self.item if curvature.moments else 0

    def _factors(self, curvature: Curvature, whole: bool) -> int:
        parts = 1 if whole else curvature.parts
        shared = curvature.moments == "covariance"
        return sum(area(out, parts) + (0 if shared and self.probe.source[b] != b else area(wide, parts))
                   for b, (out, wide) in enumerate(_sizes(self.work.blocks)))

    def eigenvalues(self) -> int:
        """One number for each coordinate."""
        return self.work.parameters * self.item

    def decomposition(self, curvature: Curvature) -> int:
        """Eigenvectors of inputs in float64, kept for the blocks that share them, and one decomposition's scratch."""
        shared = curvature.moments == "covariance"
        kept = sum(area(wide, curvature.parts) for b, (_, wide) in enumerate(_sizes(self.work.blocks))
                   if not shared or self.probe.source[b] == b)
        largest = max(n for pair in _sizes(self.work.blocks) for size in pair for n in parts_of(size, curvature.parts))
        return 8 * (kept + WORK * largest**2)

    def masked(self) -> int:
        """The widest inputs of a batch once more, with padding set to zero."""
        return self.shape.tokens * self.item * max(block.inputs for block in self.work.blocks)

    def rotated(self) -> int:
        """Scratch of rotated inputs, output gradients, and gradients of a few rows, twice."""
        sizes = _sizes(self.work.blocks)
        return self.item * self.shape.tokens * (max(out for out, _ in sizes) + max(wide for _, wide in sizes)
                                                ) + 2 * self.gradients_at_once()

    def gradients_at_once(self) -> int:
        """Whole gradients of as many rows as fit a chunk, one at least."""
        return max(self.chunk, self.item * max(out * wide for out, wide in _sizes(self.work.blocks)))

    def products(self, queries: int) -> int:
        """Of every block with every row, as they are summed up and once more where their columns are put in order."""
        return 2 * self.item * len(self.work.blocks) * queries * self.work.train.count

    def collected(self) -> int:
        """Products of all queries in float64, in parts and joined."""
        return 2 * 8 * len(self.work.blocks) * self.work.queries.count * self.work.train.count

    def scores(self) -> int:
        """Products in float64, their sum, and the scores."""
        pairs = self.work.queries.count * self.work.train.count
        return 8 * pairs * (len(self.work.blocks) + 3)

    def grams(self, spectra: bool) -> int:
        """K of every block with K_v, in float64; with the eigenvectors of K where the method looks at them."""
        rows, queries = self.work.train.count, self.work.queries.count
        return 8 * len(self.work.blocks) * ((1 + spectra) * rows * rows + (1 + spectra) * queries * rows)


def _sizes(blocks: Sequence[Block]) -> list[tuple[int, int]]:
    return [(block.outputs, block.inputs + block.bias) for block in blocks]
