"""`Tokenwise`: influence spread over the positions of an example, and the checks that every such view shares.

Shapes: Q queries, n examples, L tokens of one example (differs between examples), B blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from whence.base.errors import WhenceError
from whence.data.examples import Examples
from whence.models.blocks import Block


@dataclass(frozen=True)
class Tokenwise:
    """One number for each query, example and position.

    Attributes:
        ids: names of the n examples.
        values: for each example float64 [Q, L]: `values[i][q, t]` belongs to `examples.tokens[i][t]`.
        what: what the number at t says, and of which token; to be shown beside the numbers.
        can_carry: int64 [n], positions of each example that could hold a number other than 0.
        by_block: for each example float64 [B, Q, L], summing to `values`; None where not asked for.
        facts: JSON-able facts about how the numbers were made.

    Raises:
        WhenceError: a number is NaN or infinite (names the example and the position).
    """

    ids: tuple[str, ...]
    values: tuple[Float64[np.ndarray, "Q _"], ...]
    what: str
    can_carry: Int64[np.ndarray, " n"]
    by_block: tuple[Float64[np.ndarray, "B Q _"], ...] | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, values in zip(self.ids, self.values, strict=True):
            bad = np.argwhere(~np.isfinite(values))
            if len(bad):
                q, t = bad[0]
                raise WhenceError(f"the influence on query {q} of position {t} of example {name!r} is "
                                  f"{values[q, t]} ({len(bad)} of {values.size} are not finite): check the "
                                  "weights, the data type and the preconditioned gradients")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def totals(self) -> Float64[np.ndarray, "Q n"]:
        """Sums over positions: one number for each query and example."""
        return np.stack([values.sum(axis=1) for values in self.values], axis=1)

    def strongest(self, query: int, example: int, count: int = 5) -> list[int]:
        """Positions with the largest absolute number, largest first; those with 0 are left out."""
        size = np.abs(self.values[example][query])
        order = np.argsort(-size, kind="stable")[:count]
        return [int(t) for t in order if size[t] > 0]


def influencing_positions(examples: Examples) -> Int64[np.ndarray, " n"]:
    """int64 [n]: positions before the last counted token, the only ones that a causal model's loss looks at."""
    return np.array([int(np.flatnonzero(mask)[-1]) if mask.any() else 0 for mask in examples.is_response],
                    dtype=np.int64)


def check_preconditioned(blocks: Sequence[Block], preconditioned: Sequence[Tensor]) -> int:
    """The number of queries Q, if there is one tensor [Q, P] a block.

    Raises:
        WhenceError: another number of tensors, or one of another shape (names the block).
    """
    if len(preconditioned) != len(blocks):
        raise WhenceError(f"{len(preconditioned)} preconditioned gradients for {len(blocks)} blocks; expected one "
                          "tensor [queries, parameters] for each block, in the same order")
    queries = len(preconditioned[0]) if preconditioned else 0
    for block, x in zip(blocks, preconditioned, strict=True):
        if x.shape != (queries, block.parameters):
            raise WhenceError(f"the preconditioned gradients of block {block.name!r} have shape {tuple(x.shape)}; "
                              f"expected {(queries, block.parameters)}")
        if not bool(torch.isfinite(x).all()):
            raise WhenceError(f"a preconditioned gradient of block {block.name!r} is not finite; check the "
                              "curvature and its damping")
    return queries


def check_train_size(train_size: int) -> None:
    """Refuse N below 1: N is the number of training rows, by which every influence is divided."""
    if train_size < 1:
        raise WhenceError(f"train_size={train_size}: expected the number of training rows, at least 1")
