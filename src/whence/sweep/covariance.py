"""A sink for the two covariances of a Kronecker-factored curvature.

    A = sum over tokens of a~ a~^T  [in', in']        S = sum over tokens of d d^T  [out, out]

a~ is the input with a 1 appended where the block has a bias, so in' = in + 1 there. Tokens are those that can
have a gradient (`Captured.reach`). Blocks that read the same inputs have one A.

Cost: tokens x (in'^2 + out^2) multiply-adds, less 3/8 of it because only blocks of the upper triangle are computed.
Memory: A and S of every block, in float32 or better.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from whence.models.blocks import Block
from whence.sweep.capture import Captured
from whence.sweep.workspace import wide

STRIPES = 4  # of columns; the triangle by stripes takes (1 + 1/STRIPES) / 2 of the whole square
SMALLEST = 64  # columns below which a stripe is not worth a call


class CovarianceSink:
    """Sums A and S of every block, and counts tokens.

    Attributes:
        inputs: A, by the index of the first block with these inputs.
        outputs: S, one a block.
        source: for each block, the key of its A.
        tokens: how many were summed, by key of A.
    """

    def __init__(self, blocks: Sequence[Block], device: torch.device | str = "cpu",
                 dtype: torch.dtype = torch.float32) -> None:
        self.blocks, self.dtype, self.device = tuple(blocks), dtype, device
        self.inputs: dict[int, Tensor] = {}
        self.outputs = [torch.zeros(block.outputs, block.outputs, dtype=dtype, device=device) for block in blocks]
        self.source: dict[int, int] = {}
        self.tokens: dict[int, Tensor] = {}

    def update(self, share: Captured) -> None:
        """Add one batch's products."""
        flat = share.reach.reshape(-1)
        d = wide(share.d).flatten(0, 1)
        add_gram(self.outputs[share.block], d)  # d is zero out of reach
        self.source[share.block] = share.source
        if share.source == share.block:
            self._add_inputs(share, flat)

    def _add_inputs(self, share: Captured, flat: Tensor) -> None:
        a = wide(share.a).flatten(0, 1)
        a = a * flat[:, None].to(a.dtype)
        size = a.shape[1]
        if share.block not in self.inputs:
            self.inputs[share.block] = torch.zeros(size + share.bias, size + share.bias, dtype=self.dtype,
                                                   device=self.device)
            self.tokens[share.block] = torch.zeros((), dtype=torch.int64, device=self.device)
        A = self.inputs[share.block]
        add_gram(A[:size, :size], a)
        self.tokens[share.block] += flat.sum()
        if share.bias:
            A[:size, size] += a.sum(dim=0)

    def finish(self, order: np.ndarray) -> None:
        """Mirror the upper triangles."""
        for matrix in (*self.inputs.values(), *self.outputs):
            mirror(matrix)
        for key, A in self.inputs.items():
            if self.blocks[key].bias:
                A[-1, -1] = self.tokens[key]

    def state(self) -> dict[str, Tensor]:
        """The sums so far."""
        state = {f"S{b}": S for b, S in enumerate(self.outputs)}
        state |= {f"A{key}": A for key, A in self.inputs.items()}
        state |= {f"n{key}": count for key, count in self.tokens.items()}
        return state | {"source": torch.tensor([self.source.get(b, -1) for b in range(len(self.blocks))])}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take over sums."""
        for b in range(len(self.blocks)):
            self.outputs[b].copy_(state[f"S{b}"])
        self.source = {b: int(key) for b, key in enumerate(state["source"]) if key >= 0}
        for key in set(self.source.values()):
            self.inputs[key] = state[f"A{key}"].to(self.device)
            self.tokens[key] = state[f"n{key}"].to(self.device)


def add_gram(total: Tensor, rows: Tensor) -> None:
    """`total += rows^T rows` in the upper triangle (and some of the lower, which `mirror` overwrites)."""
    size = rows.shape[1]
    step = max(SMALLEST, -(-size // STRIPES))
    for start in range(0, size, step):
        at = slice(start, min(start + step, size))
        total[at, start:size].addmm_(rows[:, at].T, rows[:, start:])


def mirror(matrix: Tensor) -> None:
    """The upper triangle onto the lower, in place."""
    matrix.copy_(matrix.triu() + matrix.triu(1).T)
