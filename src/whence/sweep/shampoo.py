"""A sink for Shampoo's two moments of the per-example gradient G = sum over tokens of d a~^T.

    R = sum over examples of G^T G  [in', in']        L = sum over examples of G G^T  [out, out]

Gupta, Koren & Singer 2018 (arXiv 1802.09568). Unlike a covariance over tokens they see the tokens of a row together.
Cost: T in' out for G and in' out (in' + out) for the products, an example.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from whence.models.blocks import Block
from whence.sweep.basis import Basis
from whence.sweep.capture import Captured
from whence.sweep.covariance import add_gram, mirror
from whence.sweep.rotated import Rotated


class ShampooSink:
    """Sums R (`inputs[b]`) and L (`outputs[b]`) of every block."""

    def __init__(self, blocks: Sequence[Block], device: torch.device | str = "cpu",
                 dtype: torch.dtype = torch.float32) -> None:
        def square(size: int) -> Tensor:
            return torch.zeros(size, size, dtype=dtype, device=device)

        self.inputs = [square(block.inputs + block.bias) for block in blocks]
        self.outputs = [square(block.outputs) for block in blocks]
        self._gradients = Rotated([Basis()] * len(blocks))

    def update(self, share: Captured) -> None:
        """Add one batch's products."""
        for _, G in self._gradients(share):
            add_gram(self.inputs[share.block], G.flatten(0, 1))
            for g in G:
                add_gram(self.outputs[share.block], g.T)

    def finish(self, order: np.ndarray) -> None:
        """Mirror the upper triangles."""
        for matrix in (*self.inputs, *self.outputs):
            mirror(matrix)

    def state(self) -> dict[str, Tensor]:
        """The sums so far."""
        return {f"R{b}": R for b, R in enumerate(self.inputs)} | {f"L{b}": L for b, L in enumerate(self.outputs)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take over sums."""
        for b in range(len(self.inputs)):
            self.inputs[b].copy_(state[f"R{b}"])
            self.outputs[b].copy_(state[f"L{b}"])
