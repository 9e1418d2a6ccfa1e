"""From a model and its data to Gram matrices: the sweeps that every gradient method shares.

One sweep over the queries keeps their gradients; one over the training rows multiplies them. Where the
training gradients of all blocks do not fit in memory together, blocks are taken in groups, a sweep each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import psutil
import torch
from torch import nn

from whence.base.errors import WhenceError
from whence.curvature.gram import Gram
from whence.data.examples import Examples
from whence.measure.measurement import Measurement
from whence.models.blocks import Block
from whence.sweep.gram import DotSink, GradientStore, check_finite
from whence.sweep.hidden import HiddenStates, Token
from whence.sweep.sweep import GradientSink, Layout, Measured, sweep


@dataclass(frozen=True)
class Pass:
    """What one group of blocks gave: Gram matrices, and what was measured of each query on the way."""

    grams: tuple[Gram, ...]
    queries: Measured


def gradient_dtype(model: nn.Module) -> torch.dtype:
    """Gradients are kept in float32, or in float64 for a float64 model."""
    return torch.promote_types(next(model.parameters()).dtype, torch.float32)


def free_memory(model: nn.Module) -> int:
    """Bytes that are free where the model is."""
    device = next(model.parameters()).device
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available


def group_blocks(blocks: Sequence[Block], rows: int, itemsize: int, memory: int) -> list[list[Block]]:
    """Consecutive blocks whose gradients of `rows` rows fit in `memory` bytes together.

    Raises:
        WhenceError: one block alone does not fit; names it and what would.
    """
    groups: list[list[Block]] = []
    free = 0
    for block in blocks:
        need = rows * block.parameters * itemsize
        if need > memory:
            raise WhenceError(
                f"the gradients of {rows} rows at block {block.name!r} ({block.parameters:,} parameters) take "
                f"{need / 2**30:.1f} GiB and {memory / 2**30:.1f} GiB are free for them: attribute fewer rows "
                f"(at most {memory // (block.parameters * itemsize):,}), or smaller blocks (an adapter's)")
        if not groups or need > free:
            groups.append([])
            free = memory
        groups[-1].append(block)
        free -= need
    return groups


def collect_grams(model: nn.Module, train: Examples, queries: Examples, blocks: Sequence[Block], *,
                  known: Sequence[Gram] | None = None, measurement: Measurement | None = None, pad_id: int = 0,
                  layout: Layout | None = None, hidden_train: HiddenStates | None = None,
                  hidden_queries: HiddenStates | None = None) -> Pass:
    """Gram matrices of the given blocks, all at once.

    Args:
        known: Gram matrices of earlier queries over the same blocks and training rows; their K is used
            again, and no training gradient is kept.
        measurement: what is attributed of a query (training rows always give the gradient of their
            log-probability); default the log-probability of the response.
        hidden_train: takes the training rows' hidden states in the same forward passes.
        hidden_queries: likewise for the queries.

    Raises:
        WhenceError: a gradient is not finite (names the example and the block).
    """
    dtype, device = gradient_dtype(model), next(model.parameters()).device
    store = GradientStore(blocks, len(queries), device, dtype)
    measured_queries = sweep(model, queries, blocks, [store], _list(hidden_queries), measurement, pad_id, layout,
                             what="sweep over the queries")
    norms = [store.squared_norms(b) for b in range(len(blocks))]
    for block, norm in zip(blocks, norms, strict=True):
        check_finite(norm, block.name, queries.ids)
    dots = DotSink(store, len(train))
    kept = None if known else GradientStore(blocks, len(train), device, dtype)
    sinks: list[GradientSink] = [kept, dots] if kept else [dots]
    sweep(model, train, blocks, sinks, _list(hidden_train), None, pad_id, layout,
          what="sweep over the training data")
    grams = []
    for b, block in enumerate(blocks):
        check_finite(dots.norms[b], block.name, train.ids)
        if kept is None:
            assert known is not None
            grams.append(known[b].with_queries(dots.products[b], norms[b]))
        else:
            grams.append(Gram(block.name, block.parameters, kept.gram(b), dots.products[b], norms[b]))
    return Pass(tuple(grams), measured_queries)


def collect_hidden(model: nn.Module, examples: Examples, choices: Sequence[tuple[int, Token]], pad_id: int = 0,
                   layout: Layout | None = None, what: str = "representations") -> HiddenStates:
    """Hidden states alone, by a forward pass without the output head's cost being felt."""
    hidden = HiddenStates(choices)
    sweep(model, examples, hidden_sinks=[hidden], pad_id=pad_id, layout=layout, what=what)
    return hidden


def _list(sink: HiddenStates | None) -> list[HiddenStates]:
    return [sink] if sink else []
