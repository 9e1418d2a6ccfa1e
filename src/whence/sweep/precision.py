"""Are 16 bits enough? The first rows of a pass both ways: as the pass computes them, and in float32.

    values      |f_16 - f_32| / counted tokens                          of a row, in the measurement's unit
    gradients   |G_16 - G_32| / |G_32|, G over all blocks together      of a row
    block       the same for one block, squares summed over the rows    the worst is named

Sums are taken in float32 either way (`sweep.workspace.wide`); what is measured here is the rounding of the forward
and backward pass, which no accumulation mends. With (a, d) of both passes the difference of two gradients is

    d a^T - e b^T = (d - e) a^T + e (a - b)^T,        |D A^T|^2 = sum over pairs of tokens of (D D^T) * (A A^T)

so no gradient is formed. Memory: the weights once more in float32 where they are smaller, and a and d of the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from whence.data.batch import plan_batches
from whence.data.examples import Examples
from whence.measure.measurement import LogProb, Measurement
from whence.models.blocks import Block
from whence.sweep.capture import Captured
from whence.sweep.norms import square_norms
from whence.sweep.sweep import Layout, sweep
from whence.sweep.workspace import wide

TOKENS = 1024  # positions that are looked at, about; one row at least
LIMIT = 0.05  # of a row's gradient, in the median, above which a user is told


@dataclass(frozen=True)
class Precision:
    """What 16 bits do to the first rows.

    Attributes:
        rows: how many were looked at.
        value: largest difference of a measurement, per counted token.
        gradient, worst: median and largest relative error of a row's gradient.
        block, of_block: the block with the largest relative error, and that error.
    """

    rows: int
    value: float
    gradient: float
    worst: float
    block: str
    of_block: float

    @property
    def enough(self) -> bool:
        """Whether gradients are within `LIMIT`."""
        return self.gradient <= LIMIT

    def __str__(self) -> str:
        return (f"16 bits against float32 on {self.rows} rows: gradients off by {self.gradient:.1%} in the median, "
                f"{self.worst:.1%} at most ({self.block} by {self.of_block:.1%}), values by {self.value:.2g} a token")

    def to_json(self) -> dict[str, Any]:
        """As it is written down."""
        return {**asdict(self), "enough": self.enough}


def rounded(model: nn.Module, layout: Layout) -> bool:
    """Whether a pass computes in fewer than 32 bits."""
    return layout.dtype == "bf16" or any(p.is_floating_point() and p.element_size() < 4 for p in model.parameters())


def check_precision(model: nn.Module, examples: Examples, blocks: Sequence[Block], layout: Layout, pad_id: int = 0,
                    measurement: Measurement | None = None) -> Precision:
    """Run the first rows of a pass over `examples` as it would be, and in float32, and compare."""
    measurement = measurement or LogProb()
    first = plan_batches(examples, layout.batch_tokens, layout.batch_size)[0]
    some = examples.select(first[: max(1, TOKENS // int(examples.lengths[first[0]]))])
    kept = _Kept(len(blocks))
    found = sweep(model, some, blocks, [kept], measurement=measurement, pad_id=pad_id, layout=layout,
                  what="16 bits, checked")
    against = _Against(kept, len(some))
    with widened(model):
        exact = sweep(model, some, blocks, [against], measurement=measurement, pad_id=pad_id,
                      layout=replace(layout, dtype="model"), what="the same in float32")
    counted = np.array([mask.sum() for mask in some.is_response])
    error, norm = (np.stack(parts, axis=1) for parts in (against.errors, against.norms))  # [rows, blocks]
    of_rows = np.sqrt(error.sum(axis=1) / np.maximum(norm.sum(axis=1), np.finfo(float).tiny))
    of_blocks = np.sqrt(error.sum(axis=0) / np.maximum(norm.sum(axis=0), np.finfo(float).tiny))
    worst = int(of_blocks.argmax())
    return Precision(len(some), float((np.abs(found.values - exact.values) / counted).max()),
                     float(np.median(of_rows)), float(of_rows.max()), blocks[worst].name, float(of_blocks[worst]))


@contextmanager
def widened(model: nn.Module) -> Iterator[nn.Module]:
    """While open, weights and buffers of fewer bits are float32; afterwards they are the very tensors they were."""
    small = [tensor for tensor in (*model.parameters(), *model.buffers())
             if tensor.is_floating_point() and tensor.element_size() < 4]
    kept = [tensor.data for tensor in small]
    try:
        for tensor in small:
            tensor.data = tensor.data.float()
        yield model
    finally:
        for tensor, data in zip(small, kept, strict=True):
            tensor.data = data


class _Kept:
    """(a, d) of every block and batch, in the order they come."""

    def __init__(self, blocks: int) -> None:
        self.shares: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(blocks)]

    def update(self, share: Captured) -> None:
        self.shares[share.block].append((share.a, share.d))

    def finish(self, order: np.ndarray) -> None: ...


class _Against:
    """Square norms of the gradients, and of their differences to those that were kept, [rows] a block."""

    def __init__(self, kept: _Kept, rows: int) -> None:
        self.kept = kept
        self.errors = [np.zeros(rows) for _ in kept.shares]
        self.norms = [np.zeros(rows) for _ in kept.shares]

    def update(self, share: Captured) -> None:
        b, e = (wide(part) for part in self.kept.shares[share.block].pop(0))
        a, d = wide(share.a), wide(share.d)
        self.norms[share.block][share.at] = square_norms(a, d, share.bias).double().cpu().numpy()
        self.errors[share.block][share.at] = square_differences(a, d, b, e, share.bias).double().cpu().numpy()

    def finish(self, order: np.ndarray) -> None:
        back = np.argsort(order)
        self.errors, self.norms = ([part[back] for part in parts] for parts in (self.errors, self.norms))


def square_differences(a: Float[Tensor, "B T in"], d: Float[Tensor, "B T out"], b: Float[Tensor, "B T in"],
                       e: Float[Tensor, "B T out"], bias: bool) -> Float[Tensor, " B"]:
    """`|sum_t d_t a~_t^T - e_t b~_t^T|^2` of each row, without the cancellation of `|x|^2 + |y|^2 - 2 xy`."""
    A, D = torch.cat([a, a - b], dim=1), torch.cat([d - e, e], dim=1)
    ones = torch.zeros(A.shape[1], dtype=A.dtype, device=A.device)
    ones[: a.shape[1]] = float(bias)  # the appended 1s cancel in a~ - b~
    return ((A @ A.mT + torch.outer(ones, ones)) * (D @ D.mT)).sum(dim=(1, 2))
