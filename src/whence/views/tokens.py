"""Tokenwise influence of training examples: which positions the gradient that moves a query comes from.

    score[q, i] = (1/N) <X_q, G_i>,   G_i = sum_t d_t a_t^T (and sum_t d_t for a bias)
    s[q, i, t]  = (1/N) (d_t^T X_q a_t + x_q^bias . d_t),       sum_t s[q, i, t] = score[q, i]

summed over blocks, with a_t the input of a block at position t, d_t the gradient of the example's
log-probability at its output, and X_q = (C + lambda I)^-1 v_q as a matrix [out, in] (Grosse et al. 2023, arXiv
2308.03296, eq. 30-31). Unit: that of the score (nats). Positive = proponent.

How it is to be read. Position t holds the token that the model *reads* there, and predicts the token after it:
what is highlighted is the token BEFORE the predicted one. And the gradient at t is no share of token t alone:
through attention d_t holds the losses of all later tokens, so a position also gets credit for what follows, and
the sign of one position is not to be interpreted by itself. Only the sum over t is the score.

Cost: one pass over the examples, and 2 P multiplications a position, block and query. Memory: no gradient is formed.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from whence.data.batch import PaddingSide
from whence.data.examples import Examples
from whence.models.blocks import Block
from whence.sweep.capture import Captured
from whence.sweep.sweep import Layout, sweep
from whence.views.tokenwise import Tokenwise, check_preconditioned, check_train_size, influencing_positions

WHAT = ("share of the score that comes from the gradient at this position; the position predicts the token after "
        "it, its gradient also holds what is predicted later, and the sign of a single one is not interpretable")


class TokenInfluence:
    """A sweep's sink: the influence of every position of the examples swept over, for all queries.

    Meant for few examples (the best hits): memory is Q numbers a position, B times that with `by_block`.

    Args:
        blocks: the blocks of the sweep.
        preconditioned: X, a tensor [Q, P] a block, in the layout of `Captured.gradients`.
        examples: what is swept over.
        train_size: N, the number of training rows (not of the examples looked at).
        side: on which side the sweep pads.
        by_block: keep every block's share too.
    """

    def __init__(self, blocks: Sequence[Block], preconditioned: Sequence[Tensor], examples: Examples,
                 train_size: int, side: PaddingSide = "right", by_block: bool = False) -> None:
        check_train_size(train_size)
        self._queries = check_preconditioned(blocks, preconditioned)
        self._blocks, self._x, self._examples = tuple(blocks), tuple(preconditioned), examples
        self._train_size, self._side, self._by_block = train_size, side, by_block
        self._parts: dict[int, np.ndarray] = {}  # first place of a batch -> [blocks or 1, Q, batch, T]

    def update(self, share: Captured) -> None:
        """Take in one block's (a, d) of one batch."""
        values = _at_positions(share, self._x[share.block]).cpu().double().numpy() / self._train_size
        part = self._parts.get(share.at.start)
        if part is None:
            kept = len(self._blocks) if self._by_block else 1
            part = self._parts[share.at.start] = np.zeros((kept, *values.shape))
        part[share.block if self._by_block else 0] += values

    def finish(self, order: np.ndarray) -> None:
        """Cut off the padding, and put the examples into their order."""
        rows: dict[int, np.ndarray] = {}
        for start, part in self._parts.items():
            for place in range(part.shape[2]):
                row = int(order[start + place])
                length, width = len(self._examples.tokens[row]), part.shape[3]
                at = slice(width - length, width) if self._side == "left" else slice(0, length)
                rows[row] = part[:, :, place, at]
        ordered = [rows[row] for row in range(len(self._examples))]
        self.result = Tokenwise(
            self._examples.ids, tuple(part.sum(axis=0) for part in ordered), WHAT,
            influencing_positions(self._examples), tuple(ordered) if self._by_block else None,
            {"n_train": self._train_size, "examples": len(ordered), "queries": self._queries})


def token_influence(model: nn.Module, examples: Examples, blocks: Sequence[Block], preconditioned: Sequence[Tensor],
                    train_size: int, *, by_block: bool = False, pad_id: int = 0,
                    layout: Layout | None = None) -> Tokenwise:
    """Tokenwise influence of `examples` (chosen training rows) on Q queries, in one pass; see above.

    Raises:
        WhenceError: gradients that do not fit the blocks; a value that is not finite; N below 1.
    """
    layout = layout or Layout()
    sink = TokenInfluence(blocks, preconditioned, examples, train_size, layout.side, by_block)
    sweep(model, examples, blocks, [sink], pad_id=pad_id, layout=layout, what="influence by token")
    return sink.result


def _at_positions(share: Captured, x: Float[Tensor, "Q P"]) -> Float[Tensor, "Q n T"]:
    """d_t^T X_q a_t, and x_q^bias . d_t, of every query, example and position."""
    dtype = torch.promote_types(torch.promote_types(share.a.dtype, torch.float32), x.dtype)
    a, d, x = share.a.to(dtype), share.d.to(dtype), x.to(share.a.device, dtype)
    (size, width, inputs), outputs = a.shape, d.shape[2]
    weights = x[:, : outputs * inputs].view(-1, outputs, inputs)
    values = a.new_empty(len(x), size, width)
    for q, matrix in enumerate(weights):  # one query at a time: [n, T, in] is all that is held
        # the product with the larger side first leaves the smaller intermediate
        values[q] = ((d @ matrix) * a if inputs <= outputs else (a @ matrix.T) * d).sum(dim=2)
    if share.bias:
        values += torch.einsum("bto,qo->qbt", d, x[:, outputs * inputs :])
    return values
