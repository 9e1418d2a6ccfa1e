"""Sinks for the size of gradients: of every example, and of their mean. Neither forms a gradient of an example.

    |G_i|^2 = sum over pairs of tokens of (D D^T) * (A~ A~^T)        of each example; A~ with a 1 for a bias
    sum_i G_i = D^T A~ over the tokens of all examples               one product a batch
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from whence.models.blocks import Block
from whence.sweep.capture import Captured
from whence.sweep.workspace import wide


class NormSink:
    """Square norms of the gradients of N examples.

    Attributes:
        squares: float64 [blocks, N] when the pass is over, in the order of the examples.
    """

    def __init__(self, blocks: Sequence[Block], rows: int, device: torch.device | str = "cpu") -> None:
        self.squares = torch.zeros(len(blocks), rows, dtype=torch.float64, device=device)

    def update(self, share: Captured) -> None:
        """Square one batch's gradients."""
        self.squares[share.block, share.at] = square_norms(wide(share.a), wide(share.d), share.bias).double()

    def finish(self, order: np.ndarray) -> None:
        """Put the columns into the order of the examples."""
        self.squares = self.squares[:, torch.from_numpy(np.argsort(order)).to(self.squares.device)]


class SumSink:
    """The sum of the gradients of all examples, one [out, in'] a block, in float32 or better."""

    def __init__(self, blocks: Sequence[Block], device: torch.device | str = "cpu",
                 dtype: torch.dtype = torch.float32) -> None:
        self.sums = [torch.zeros(block.outputs, block.inputs + block.bias, dtype=dtype, device=device)
                     for block in blocks]

    def update(self, share: Captured) -> None:
        """Add one batch's."""
        a, d = wide(share.a).flatten(0, 1), wide(share.d).flatten(0, 1)
        total = self.sums[share.block]
        total[:, : a.shape[1]] += d.mT @ a
        if share.bias:
            total[:, -1] += d.sum(dim=0)

    def finish(self, order: np.ndarray) -> None:
        """Nothing is left to do."""


def square_norms(a: Float[Tensor, "B T in"], d: Float[Tensor, "B T out"], bias: bool) -> Float[Tensor, " B"]:
    """`|sum_t d_t a~_t^T|^2` of each row."""
    return ((a @ a.mT + float(bias)) * (d @ d.mT)).sum(dim=(1, 2))
