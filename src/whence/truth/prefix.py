"""What all members of a bank share: the layers below the first adapter, which no member changes, run once.

Where adapters stand in the upper layers alone, a row's hidden states at the first of these are the same for every
member, epoch and step. They are computed once in a worker and handed to that layer; the layers below are skipped. Equal
to running them, up to the rounding of other batch shapes (about 1e-6 of a loss).

Memory: tokens x width numbers, kept only where they fit the limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from whence.data.batch import collate, plan_batches
from whence.data.examples import Examples

LIMIT_BYTES = 1 << 30


class _Reached(Exception):
    """The first layer that matters was reached; the rest of the pass is not wanted."""


class Prefix:
    """Hidden states of all rows where the first trained layer reads them.

    Args:
        model: with its adapters; the layers stay those of the base, so that it serves every member.
        first: index of the first layer that is trained.
        examples: the rows.
        pad_id: a token id to pad with.
        autocast: whether members run under bf16.
    """

    def __init__(self, model: nn.Module, first: int, examples: Examples, pad_id: int = 0,
                 autocast: bool = False) -> None:
        self.first, self._layers = first, decoder_layers(model)
        self._states: list[Tensor] = [torch.empty(0)] * len(examples)
        device, met = next(model.parameters()).device, list[Tensor]()

        def stop(_: nn.Module, args: tuple[Any, ...]) -> None:
            met[:] = [args[0]]
            raise _Reached

        handle = self._layers[first].register_forward_pre_hook(stop)
        try:
            with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=autocast):
                for rows in plan_batches(examples):
                    batch = collate(examples, rows, pad_id).to(device)
                    try:
                        model(input_ids=batch.input_ids, attention_mask=batch.attention_mask,
                              position_ids=batch.position_ids, use_cache=False)
                    except _Reached:
                        for b, row in enumerate(rows):
                            self._states[row] = met[0][b, : len(examples.tokens[row])].clone()
        finally:
            handle.remove()

    @contextmanager
    def used(self) -> Iterator[Callable[[np.ndarray], None]]:
        """While open, the layers below are skipped; call what is yielded with the rows of each batch before it runs."""
        given: list[Tensor] = []

        def give(rows: np.ndarray) -> None:
            given[:] = [nn.utils.rnn.pad_sequence([self._states[row] for row in rows], batch_first=True)]

        def instead(_: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            return (given[0], *args[1:])

        handle = self._layers[self.first].register_forward_pre_hook(instead)
        skipped = [(layer, vars(layer).get("forward")) for layer in list(self._layers)[: self.first]]
        try:
            for layer, _ in skipped:
                layer.forward = _pass_on  # type: ignore[method-assign]
            yield give
        finally:
            handle.remove()
            for layer, own in skipped:
                del layer.forward
                if own is not None:  # somebody else had put one there
                    layer.forward = own  # type: ignore[method-assign]


def _pass_on(hidden: Tensor, *args: Any, **options: Any) -> Tensor:
    return hidden


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """The transformer layers of a causal language model, in order; empty where they are not found."""
    config: Any = getattr(model, "config", None)
    count = getattr(config, "num_hidden_layers", None)
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return module
    return nn.ModuleList()


def first_trained(model: nn.Module) -> int:
    """Index of the first layer with a weight that is trained; 0 where there is nothing to share.

    Nothing is shared where a weight outside the layers is trained (an embedding, a norm), or where dropout makes the
    layers below random.
    """
    layers = decoder_layers(model)
    inside = {id(p) for layer in layers for p in layer.parameters()}
    if any(p.requires_grad and id(p) not in inside for p in model.parameters()):
        return 0
    trained = [place for place, layer in enumerate(layers) if any(p.requires_grad for p in layer.parameters())]
    if not trained or trained[0] == 0:
        return 0
    above = {id(module) for layer in list(layers)[trained[0] :] for module in layer.modules()}
    if any(isinstance(module, nn.Dropout) and module.p > 0 and id(module) not in above for module in model.modules()):
        return 0
    config: Any = getattr(model, "config", None)
    if any(getattr(config, name, 0) for name in ("attention_dropout", "attn_pdrop")):
        return 0
    return trained[0]


def fits(examples: Examples, model: nn.Module, limit: int = LIMIT_BYTES) -> bool:
    """Whether the hidden states of all rows are within the limit."""
    width = getattr(getattr(model, "config", None), "hidden_size", None)
    return width is not None and int(examples.lengths.sum()) * width * 4 <= limit
