"""From examples to padded tensors: which rows go together, and how they are laid out.

Shapes: B examples, T positions. Rows of like length share a batch, so little is wasted on padding; what
padding there is carries attention 0 and label -100, and never reaches a loss or a gradient. Tokens that an example
hides from attention carry attention 0 too, with positions and labels like any other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from whence.base.errors import WhenceError
from whence.data.examples import Examples

IGNORE = -100
PaddingSide = Literal["left", "right"]


@dataclass(frozen=True)
class Batch:
    """B examples, padded to T positions.

    `labels[b, t]` is the token at t where its log-probability counts, else -100; the prediction for it
    stands at t - 1. `rows[b]` is the example's index in the `Examples` it came from.

    Of the n counted tokens of the batch, in reading order: `flat` is the position of the prediction in
    [B * T], `targets` the token, `owners` the example b. `reach[b, t]` is True up to the last prediction
    of the row: later positions (and padding) have no influence on a measurement. Both are made where the
    rows are still NumPy arrays, so that no later step has to ask a device for a count.
    """

    input_ids: Int[Tensor, "B T"]
    attention_mask: Int[Tensor, "B T"]
    position_ids: Int[Tensor, "B T"]
    labels: Int[Tensor, "B T"]
    rows: Int[Tensor, " B"]
    flat: Int[Tensor, " n"]
    targets: Int[Tensor, " n"]
    owners: Int[Tensor, " n"]
    reach: Bool[Tensor, "B T"]

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on `device`."""
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in vars(self)})


def plan_batches(examples: Examples, batch_tokens: int = 4096, batch_size: int | None = None) -> list[np.ndarray]:
    """Row indices of each batch, longest rows first, so that the largest batch comes first and fails first.

    A batch holds at most `batch_tokens` padded positions (always at least one row) and, if given, at most
    `batch_size` rows.

    Raises:
        WhenceError: a limit below 1.
    """
    for name, limit in (("batch_tokens", batch_tokens), ("batch_size", batch_size)):
        if limit is not None and limit < 1:
            raise WhenceError(f"{name}={limit}: expected at least 1")
    order = np.argsort(-examples.lengths, kind="stable")
    plan, start = [], 0
    while start < len(order):
        longest = int(examples.lengths[order[start]])
        count = max(1, batch_tokens // longest)
        count = min(count, batch_size) if batch_size is not None else count
        plan.append(order[start : start + count])
        start += count
    return plan


def collate(examples: Examples, rows: Sequence[int] | np.ndarray, pad_id: int,
            side: PaddingSide = "right") -> Batch:
    """Pad the examples at `rows` to the longest of them, on `side`."""
    width = max(len(examples.tokens[r]) for r in rows)
    input_ids = np.full((len(rows), width), pad_id, dtype=np.int64)
    attention, positions = np.zeros_like(input_ids), np.zeros_like(input_ids)
    inside = np.zeros(input_ids.shape, dtype=bool)
    labels = np.full_like(input_ids, IGNORE)
    for b, r in enumerate(rows):
        tokens = examples.tokens[r]
        at = slice(width - len(tokens), width) if side == "left" else slice(0, len(tokens))
        input_ids[b, at] = tokens
        attention[b, at] = examples.attended(int(r))
        inside[b, at] = True
        positions[b, at] = np.arange(len(tokens))
        labels[b, at] = np.where(examples.is_response[r], tokens, IGNORE)
    counted = labels != IGNORE
    owners, places = np.nonzero(counted)
    reach = np.zeros_like(counted)  # a position is in reach while a counted token comes after it
    reach[:, :-1] = np.logical_or.accumulate(counted[:, :0:-1], axis=1)[:, ::-1]
    reach &= inside
    flat = np.ravel_multi_index((owners, places - 1), labels.shape)
    arrays = (input_ids, attention, positions, labels, np.asarray(rows, dtype=np.int64), flat,
              labels[owners, places], owners, reach)
    return Batch(*(torch.from_numpy(array) for array in arrays))
