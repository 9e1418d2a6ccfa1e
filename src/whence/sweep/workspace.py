"""Scratch memory that is kept: products written into fresh memory spend half their time on its first touch.

Shapes: B examples, T positions, P numbers in an example's product.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

CHUNK_BYTES = {"cpu": 16 << 20, "cuda": 256 << 20}  # a CPU's chunk should stay in its cache until it is used


class Workspace:
    """One growing piece of memory, handed out as tensors of any shape; each hand-out overwrites the last."""

    def __init__(self) -> None:
        self._memory: Tensor | None = None

    def empty(self, *shape: int, like: Tensor) -> Tensor:
        """A tensor of `like`'s type and device, its contents arbitrary."""
        count = torch.Size(shape).numel()
        kept = self._memory
        if kept is None or kept.numel() < count or kept.dtype != like.dtype or kept.device != like.device:
            self._memory = kept = torch.empty(count, dtype=like.dtype, device=like.device)
        return kept[:count].view(shape)


def chunks(total: int, numbers: int, like: Tensor) -> Iterator[slice]:
    """Slices of `total` examples, `numbers` each, that fit a chunk of memory; at least one example at a time."""
    limit = CHUNK_BYTES.get(like.device.type, CHUNK_BYTES["cuda"])
    step = max(1, limit // (numbers * like.element_size()))
    return (slice(start, min(start + step, total)) for start in range(0, total, step))


def wide(tensor: Tensor) -> Tensor:
    """In float32 or better: what sums are taken in."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))
