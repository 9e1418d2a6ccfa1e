"""Logits where they are needed: only positions that predict a counted token reach the output head.

Responses are often a small part of a row, and the head is often the largest matrix of a small model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from whence.data.batch import IGNORE, Batch


def counted_positions(batch: Batch) -> tuple[Int[Tensor, " n"], Int[Tensor, " n"], Int[Tensor, " n"]]:
    """`(flat, targets, owners)` of the n counted tokens: flat position [B*T] of the prediction, token, example."""
    owners, at = torch.nonzero(batch.labels != IGNORE, as_tuple=True)
    flat = owners * batch.labels.shape[1] + at - 1
    return flat, batch.labels[owners, at], owners


@contextmanager
def head_only_at(model: nn.Module, flat: Int[Tensor, " n"]) -> Iterator[None]:
    """While open, the output head sees the hidden states at `flat` only and gives logits [1, n, V]."""
    head: nn.Module = model.get_output_embeddings()  # type: ignore[operator]

    def gather(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        hidden = args[0]
        return (hidden.reshape(-1, hidden.shape[-1])[flat][None], *args[1:])

    handle = head.register_forward_pre_hook(gather)
    try:
        yield
    finally:
        handle.remove()
