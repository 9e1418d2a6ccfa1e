"""A sink for the second moments of per-example gradients in a given pair of orthogonal bases.

    Lambda = sum over examples of (Q_S^T G Q_A)^2, elementwise  [out, in']         G = sum over tokens of d a~^T

The exact sequence gradient is squared, tokens summed first (Grosse et al. 2023, Eq. 20 and 26). Memory: Lambda and
the bases of every block.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from whence.models.blocks import Block
from whence.sweep.basis import Basis
from whence.sweep.capture import Captured
from whence.sweep.rotated import Rotated


class EigenvalueSink:
    """Sums Lambda of every block in its basis: `moments[b]` [out, in'] when the pass is over."""

    def __init__(self, blocks: Sequence[Block], bases: Sequence[Basis], device: torch.device | str = "cpu",
                 dtype: torch.dtype = torch.float32) -> None:
        self.moments = [torch.zeros(b.outputs, b.inputs + b.bias, dtype=dtype, device=device) for b in blocks]
        self._rotated = Rotated(bases)

    def update(self, share: Captured) -> None:
        """Add one batch's squares."""
        moment = self.moments[share.block]
        for _, G in self._rotated(share):
            for g in G:
                moment.addcmul_(g, g)

    def finish(self, order: np.ndarray) -> None:
        """Sums have no order."""

    def state(self) -> dict[str, Tensor]:
        """The sums so far."""
        return {str(b): moment for b, moment in enumerate(self.moments)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take over sums."""
        for b, moment in enumerate(self.moments):
            moment.copy_(state[str(b)])
