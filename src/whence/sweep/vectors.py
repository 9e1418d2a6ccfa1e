"""Resident vectors: one gradient-shaped array a query for one block, whole or as low-rank factors.

Shapes: Q queries, P = out * in (+ out with a bias), r rank. Low rank keeps Q r (out + in') numbers instead of Q P;
a tile of rows is made whole again when it is wanted, for all the examples of a batch at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from whence.sweep.basis import homogeneous


@dataclass(frozen=True)
class Full:
    """Vectors kept whole, `flat` [Q, P] in the layout of `Captured.gradients`."""

    flat: Float[Tensor, "Q _"]
    outputs: int
    inputs: int

    def __len__(self) -> int:
        return len(self.flat)

    def rows(self, at: slice) -> Float[Tensor, "Q rows in"]:
        """The weights' part for some outputs."""
        return self.flat[:, : self.outputs * self.inputs].unflatten(1, (self.outputs, self.inputs))[:, at]

    def bias(self) -> Float[Tensor, "Q out"]:
        """The bias's part."""
        return self.flat[:, self.outputs * self.inputs :]

    def whole(self) -> Float[Tensor, "Q _"]:
        """[Q, P]."""
        return self.flat


@dataclass(frozen=True)
class LowRank:
    """Vectors `left @ right` [Q, out, in'], the best rank-r approximations of matrices [out, in'] (Eckart & Young).

    Grosse et al. 2023, section 3.2.2, who find rank 32 of preconditioned gradients to correlate .995 with full rank.
    """

    left: Float[Tensor, "Q out r"]
    right: Float[Tensor, "Q r in_"]
    has_bias: bool

    @classmethod
    def of(cls, flat: Float[Tensor, "Q _"], outputs: int, inputs: int, bias: bool, rank: int) -> LowRank:
        """By singular values, one query at a time; at full rank nothing is lost but rounding."""
        lefts, rights = [], []
        for matrix in homogeneous(flat, outputs, inputs, bias):
            U, sizes, Vt = torch.linalg.svd(matrix, full_matrices=False)
            lefts.append(U[:, :rank] * sizes[:rank])
            rights.append(Vt[:rank])
        return cls(torch.stack(lefts), torch.stack(rights), bias)

    def __len__(self) -> int:
        return len(self.left)

    def rows(self, at: slice) -> Float[Tensor, "Q rows in"]:
        """The weights' part for some outputs."""
        right = self.right[:, :, :-1] if self.has_bias else self.right
        return torch.bmm(self.left[:, at], right)

    def bias(self) -> Float[Tensor, "Q out"]:
        """The bias's part."""
        return torch.bmm(self.left, self.right[:, :, -1:])[:, :, 0]

    def whole(self) -> Float[Tensor, "Q _"]:
        """[Q, P]."""
        weights = self.rows(slice(None)).flatten(1)
        return torch.cat([weights, self.bias()], dim=1) if self.has_bias else weights


Vectors = Full | LowRank
