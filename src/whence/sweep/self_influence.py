"""A sink for the influence of every example on itself, in the eigenbasis of its blocks' curvature.

    s_i = g_i^T (C + lambda I)^-1 g_i = sum (Q_S^T G_i Q_A)^2 / (L + lambda)        summed over blocks

with C = (Q_S x Q_A) diag(L) (Q_S x Q_A)^T, G = sum over tokens of d a~^T [out, in']. No gradient is kept. Cost: that
of the eigenvalues (`eigenvalues.py`). Positive for every example whose gradient is not zero.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from whence.models.blocks import Block
from whence.sweep.basis import Basis
from whence.sweep.capture import Captured
from whence.sweep.rotated import Rotated


class SelfInfluenceSink:
    """Self-influence of every example at every block.

    Args:
        bases: of each block.
        inverse: `1 / (L + lambda)` of each block.
        rows: how many examples there are.

    Attributes:
        values: float64 [blocks, N] when the pass is over, in the order of the examples.
    """

    def __init__(self, blocks: Sequence[Block], bases: Sequence[Basis], inverse: Sequence[Float[Tensor, "_ _"]],
                 rows: int) -> None:
        for block, each in zip(blocks, inverse, strict=True):
            if each.shape != (block.outputs, block.inputs + block.bias):
                raise ValueError(f"block {block.name!r}: {tuple(each.shape)} eigenvalues; expected "
                                 f"{(block.outputs, block.inputs + block.bias)}")
        self._inverse = list(inverse)
        self._rotated = Rotated(bases)
        self.values = torch.zeros(len(blocks), rows, dtype=torch.float64, device=inverse[0].device)

    def update(self, share: Captured) -> None:
        """Square one batch's gradients in their basis, weigh and sum them."""
        inverse, place = self._inverse[share.block].flatten(), self.values[share.block]
        for at, G in self._rotated(share):
            start = share.at.start + at.start
            place[start : start + len(G)] = (G.square_().flatten(1) @ inverse.to(G.dtype)).double()

    def finish(self, order: np.ndarray) -> None:
        """Put the columns into the order of the examples."""
        self.values = self.values[:, torch.from_numpy(np.argsort(order)).to(self.values.device)]

    def state(self) -> dict[str, Tensor]:
        """The values so far, columns in sweep order."""
        return {"values": self.values}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take over values."""
        self.values.copy_(state["values"])
