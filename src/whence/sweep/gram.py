"""Sinks for Gram matrices: keep per-example gradients of a block, multiply them at the end.

With the per-example gradients of N training rows as the rows of G [N, P] and those of Q queries as V [Q, P]:

    K = G G^T   [N, N],    K_v = V G^T   [Q, N],    |v|^2   [Q]

DataInf, LiSSA and the exact damped empirical-Fisher influence are functions of these alone. K depends on
the training rows only and is kept for later queries; K_v is made by `DotSink`, whether or not K is at hand,
so that scores are the same bit for bit either way.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from whence.base.errors import WhenceError
from whence.models.blocks import Block
from whence.sweep.capture import Captured

COLUMNS = 16384  # columns of G multiplied at once; the products are summed in float64


class GradientStore:
    """Keeps the per-example gradients of every block, [N, P] each, in preallocated memory."""

    def __init__(self, blocks: Sequence[Block], rows: int, device: torch.device | str = "cpu",
                 dtype: torch.dtype = torch.float32) -> None:
        self.blocks = tuple(blocks)
        self.gradients = [torch.empty(rows, block.parameters, dtype=dtype, device=device) for block in blocks]

    def update(self, share: Captured) -> None:
        """Write the batch's gradients into their place."""
        place = self.gradients[share.block][share.at]
        gradients = share.gradients(out=place)
        if gradients.data_ptr() != place.data_ptr():
            place.copy_(gradients)

    def finish(self, order: np.ndarray) -> None:
        """Remember where each example stands."""
        self._back = torch.from_numpy(np.argsort(order))

    def take(self) -> list[Tensor]:
        """The gradients of every block, [N, P], rows in the order of the examples; the store is empty afterwards."""
        taken, self.gradients = self.gradients, []
        if torch.equal(self._back, torch.arange(len(self._back))):
            return taken
        for gradients in taken:
            gradients.copy_(gradients[self._back.to(gradients.device)])
        return taken

    def squared_norms(self, block: int) -> np.ndarray:
        """float64 [N], |g_i|^2 over one block."""
        return _ordered(_sum_products(self.gradients[block], None).cpu().numpy(), self._back)

    def gram(self, block: int) -> np.ndarray:
        """float64 [N, N], K = G G^T of one block, rows in the order of the examples."""
        products = _sum_products(self.gradients[block], self.gradients[block]).cpu().numpy()
        return _ordered(_ordered(products, self._back).T, self._back)


class DotSink:
    """Dot products of stored query gradients with every training gradient, without keeping the latter.

    Memory: Q x P for the queries and Q x N for the products, whatever the number of training rows.
    """

    def __init__(self, queries: GradientStore, rows: int) -> None:
        self.queries = queries
        count = len(queries.blocks)
        device = queries.gradients[0].device
        device = torch.device("cpu") if device.type == "mps" else device  # where `_sum_products` leaves its float64
        self._products = torch.zeros(count, len(queries.gradients[0]), rows, dtype=torch.float64, device=device)
        self._norms = torch.zeros(count, rows, dtype=torch.float64, device=device)

    def update(self, share: Captured) -> None:
        """Multiply the batch's gradients with the queries'; the products stay on the device until the end."""
        gradients = share.gradients()
        stored = self.queries.gradients[share.block]
        self._products[share.block][:, share.at] = _sum_products(stored, gradients)
        self._norms[share.block][share.at] = _sum_products(gradients, None)

    def finish(self, order: np.ndarray) -> None:
        """Put rows and columns into the order of the examples."""
        back = np.argsort(order)
        self.products = self._products.cpu().numpy()[:, self.queries._back.numpy()][:, :, back]
        self.norms = self._norms.cpu().numpy()[:, back]


def _sum_products(left: Tensor, right: Tensor | None) -> Tensor:
    """float64 `left @ right.T`, or the squared row norms of `left`, summed over chunks of columns in float64."""
    total: Tensor | None = None
    for start in range(0, left.shape[1], COLUMNS):
        l = left[:, start : start + COLUMNS]
        if right is None:
            part = _double(l).square().sum(dim=1)
        elif right is left and l.device.type == "cpu":
            array = l.numpy()
            part = torch.from_numpy(array @ array.T).double()  # numpy sees the symmetry (syrk): half the work, no copy
        else:
            part = _double(l @ right[:, start : start + COLUMNS].T)
        total = part if total is None else total.add_(part)
    assert total is not None
    return total


def _double(tensor: Tensor) -> Tensor:
    """float64 where the tensor is, or on the CPU for a device that has none."""
    return (tensor.cpu() if tensor.device.type == "mps" else tensor).double()


def _ordered(rows: np.ndarray, back: Tensor) -> np.ndarray:
    return rows[back.numpy()]


def check_finite(squared_norms: np.ndarray, block: str, ids: Sequence[str]) -> None:
    """Refuse a NaN or infinite gradient; the error names the example and the block."""
    bad = np.flatnonzero(~np.isfinite(squared_norms))
    if len(bad):
        raise WhenceError(f"the gradient of example {ids[bad[0]]!r} at block {block!r} is not finite "
                          f"({len(bad)} of {len(squared_norms)} examples): check the weights and the data type")
