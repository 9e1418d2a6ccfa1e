"""Logits where they are needed, a chunk at a time: the output head sees counted positions only.

Responses are often a small part of a row, the head is often the largest matrix of a small model, and the logits
[positions, vocabulary] with their softmax and gradient are often the largest arrays of a pass. A chunk's logits
are made, measured, differentiated back to the hidden states and forgotten, so that memory does not grow with
vocabulary x positions.

Shapes: n counted positions of a batch of B examples, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from whence.data.batch import Batch
from whence.measure.labels import draw
from whence.measure.measurement import Measurement, greedy_matches

CHUNK_BYTES = {"cpu": 4 << 20, "cuda": 256 << 20}  # of one chunk's logits; on a CPU they should stay in its cache


class Head:
    """The output head of a model, if logits are nothing but its outputs; else the model's own logits, whole.

    Some models scale or cap logits after the head. The first batch tells: one position goes through the model's
    own path, and where it differs from the head's output every position does from then on. So it is, too, where
    the head is itself an attributed block, whose hooks must see one whole call.
    """

    def __init__(self, model: nn.Module, attributed: bool, autocast: bool = False) -> None:
        self.model, self.autocast = model, autocast
        self.module: nn.Module | None = None if attributed else getattr(model, "get_output_embeddings", lambda: None)()
        self.checked = False

    def hidden(self, batch: Batch, **options: Any) -> tuple[Tensor, Any]:
        """`(h, output)`: hidden states [n, D] at the counted positions, or the logits [n, V] where the head is not
        used apart; and what the model returned."""
        with self._cast(batch.input_ids.device):
            return self._hidden(batch, **options)

    def _cast(self, device: torch.device) -> torch.autocast:
        """Round a forward pass; the way back follows it, and what sinks sum is not in it."""
        return torch.autocast(device.type, torch.bfloat16, enabled=self.autocast)

    def _hidden(self, batch: Batch, **options: Any) -> tuple[Tensor, Any]:
        inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask,
                  "position_ids": batch.position_ids, **options}
        if self.module is None:
            output = self.model(**inputs)
            return output.logits.flatten(0, 1)[batch.flat], output
        with _taken(self.module, batch.flat) as taken:
            output = self.model(**inputs)
        if not self.checked:
            with torch.no_grad():
                same = torch.equal(self.module(taken[0][:1]), output.logits.flatten(0, 1))
            if not same:
                self.module = None
                return self._hidden(batch, **options)
            self.checked = True
        return taken[0], output

    def measure(self, hidden: Tensor, batch: Batch, measurement: Measurement, uniforms: Tensor | None,
                backward: bool) -> tuple[Tensor, Tensor]:
        """`(values [B], wrong tokens [B])` of a batch, and with `backward` the backward pass from their sum.

        With `uniforms` [n] the targets are drawn from the model (`measure.labels`).
        """
        size = len(batch.rows)
        values = torch.zeros(size, dtype=torch.promote_types(hidden.dtype, torch.float32), device=hidden.device)
        wrong = torch.zeros(size, dtype=torch.long, device=hidden.device)
        gradient = torch.empty_like(hidden) if backward else None
        weight: Any = None if self.module is None else self.module.weight
        width = hidden.shape[1] if weight is None else weight.shape[0]
        limit = CHUNK_BYTES.get(hidden.device.type, CHUNK_BYTES["cuda"])
        step = max(1, limit // (4 * width))
        for start in range(0, len(hidden), step):
            at = slice(start, start + step)
            part = hidden.detach()[at].requires_grad_(backward)
            with self._cast(hidden.device):
                logits = part if self.module is None else self.module(part)
            targets = batch.targets[at] if uniforms is None else draw(logits, uniforms[at])
            value = measurement(logits, targets, batch.owners[at], size)
            if gradient is not None:
                (gradient[at],) = torch.autograd.grad(value.sum(), part)
            values += value.detach()
            wrong += greedy_matches(logits.detach(), targets, batch.owners[at], size)
        if gradient is not None:
            hidden.backward(gradient)
        return values, wrong


def counted_logits(model: nn.Module, batch: Batch, weights: Mapping[str, Tensor] | None = None) -> Tensor:
    """Logits [n, V] at the counted positions of a batch, in one graph: for passes that need them all at once.

    Args:
        weights: to run with in place of the model's own, by name.
    """
    head = getattr(model, "get_output_embeddings", lambda: None)()
    handle = None if head is None else head.register_forward_pre_hook(
        lambda _, args: (args[0].reshape(-1, args[0].shape[-1])[batch.flat][None], *args[1:]))
    try:
        output = functional_call(model, dict(weights or {}), (), {
            "input_ids": batch.input_ids, "attention_mask": batch.attention_mask, "position_ids": batch.position_ids})
    finally:
        if handle is not None:
            handle.remove()
    logits: Tensor = output.logits.flatten(0, 1)
    return logits if len(logits) == len(batch.flat) else logits[batch.flat]


@contextmanager
def _taken(head: nn.Module, flat: Tensor) -> Iterator[list[Tensor]]:
    """While open, the head's input at `flat` [n, D] lands in the list, and the head itself sees the first of them."""
    taken: list[Tensor] = []

    def gather(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        taken.append(args[0].reshape(-1, args[0].shape[-1])[flat])
        return (taken[0][None, :1], *args[1:])

    handle = head.register_forward_pre_hook(gather)
    try:
        yield taken
    finally:
        handle.remove()
