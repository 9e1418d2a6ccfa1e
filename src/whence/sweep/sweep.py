"""THE pass over data: forward, measurement, backward to activations, and every block's (a, d) to the sinks.

Cost: one forward and one backward to activations, plus what the sinks do; about 0.7 of a training epoch
where the blocks are whole weight matrices (no weight gradient is formed), less where they are adapters of
the upper layers (the graph starts at the lowest block).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from whence.base.errors import WhenceError
from whence.base.progress import track
from whence.data.batch import Batch, PaddingSide, collate, plan_batches
from whence.data.examples import Examples
from whence.measure.labels import SampledLabels
from whence.measure.measurement import LogProb, Measurement
from whence.models.blocks import Block
from whence.sweep.capture import Captured, captured, frozen
from whence.sweep.fused import fused
from whence.sweep.head import Head
from whence.sweep.resume import Keeper

DTYPES = ("model", "bf16")


@runtime_checkable
class GradientSink(Protocol):
    """Takes each block's share of each batch; rows come in sweep order."""

    def update(self, share: Captured) -> None:
        """Take in one block's (a, d) of one batch."""
        ...

    def finish(self, order: np.ndarray) -> None:
        """The pass is over; `order[i]` is the example that stood at place i of the sweep."""
        ...


@runtime_checkable
class HiddenSink(Protocol):
    """Takes the hidden states of each batch."""

    def update_hidden(self, batch: Batch, hidden: Sequence[Tensor]) -> None:
        """`hidden[l]` is [B, T, width]: the embeddings at l = 0, then the output of each layer."""
        ...


@dataclass(frozen=True)
class Measured:
    """What the pass saw of each example: its value and whether greedy decoding gives its response."""

    values: np.ndarray  # float64 [N], in the measurement's unit
    wrong_tokens: np.ndarray  # int64 [N], counted tokens that are not the greedy choice

    @property
    def matches(self) -> np.ndarray:
        """bool [N], True where greedy decoding reproduces the response exactly."""
        return self.wrong_tokens == 0


@dataclass(frozen=True)
class Layout:
    """How examples become batches and go through the model. Scores do not depend on it, beyond rounding.

    Attributes:
        batch_tokens, batch_size: padded positions and rows of a batch, at most.
        side: where padding goes.
        dtype: `model` computes in the type of the weights; `bf16` under autocast, which leaves the weights, norms
            and softmax in theirs. Sums over positions and rows are taken in float32 or better either way.

    Raises:
        WhenceError: an unknown `dtype`.
    """

    batch_tokens: int = 4096
    batch_size: int | None = None
    side: PaddingSide = "right"
    dtype: str = "model"

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise WhenceError(f"dtype={self.dtype!r}: expected {' or '.join(DTYPES)}")


def sweep(model: nn.Module, examples: Examples, blocks: Sequence[Block] = (), sinks: Sequence[GradientSink] = (),
          hidden_sinks: Sequence[HiddenSink] = (), measurement: Measurement | None = None, pad_id: int = 0,
          layout: Layout | None = None, what: str = "sweep", labels: SampledLabels | None = None,
          keeper: Keeper | None = None) -> Measured:
    """Pass once over `examples` and hand each block's `(a, d)` to every sink.

    d is the gradient of the measurement (log-probability of the response unless told otherwise), so for the
    default the handed-out gradients are those of the *negative* loss.

    Args:
        model: a causal language model; frozen and in evaluation mode for the pass.
        examples: N examples.
        blocks: the linear maps whose gradients are wanted; none for a forward-only pass.
        sinks: receive `Captured` shares.
        hidden_sinks: receive hidden states.
        measurement: what is differentiated; default `LogProb()`.
        pad_id: a token id to pad with (masked, so any valid id gives the same scores).
        layout: batch size and padding side.
        what: name on the progress bar.
        labels: draw the targets from the model instead of taking those of the data.
        keeper: writes the state of the pass down from time to time, and goes on from what it finds; for sinks
            that have a state (`sweep.resume.Resumable`).

    Raises:
        WhenceError: a value is NaN or infinite (names the example), or a block runs twice in a pass.
    """
    measurement, layout = measurement or LogProb(), layout or Layout()
    plan = plan_batches(examples, layout.batch_tokens, layout.batch_size)
    device = next(model.parameters()).device
    values: list[Tensor] = []
    wrong: list[Tensor] = []
    at, reach = slice(0, 0), torch.empty(0)

    def receive(index: int, source: int, a: Tensor, d: Tensor) -> None:
        share = Captured(index, source, a, d, reach, at, blocks[index].bias)
        for sink in sinks:
            sink.update(share)

    done = keeper.restore(sinks, values, wrong) if keeper else 0
    start = sum(len(rows) for rows in plan[:done])
    with ExitStack() as stack:
        stack.enter_context(frozen(model))
        stack.enter_context(fused(model))
        stack.enter_context(torch.set_grad_enabled(bool(sinks)))
        if sinks:
            stack.enter_context(captured(model, blocks, receive))
        head = Head(model, attributed=any(block.module is _head(model) for block in blocks),
                    autocast=layout.dtype == "bf16")
        for number, rows in enumerate(track(plan[done:], what, len(plan) - done), done + 1):
            uniforms = labels.uniforms(examples, rows).to(device, non_blocking=True) if labels else None
            batch = collate(examples, rows, pad_id, layout.side).to(device)
            at, reach = slice(start, start + len(rows)), batch.reach
            hidden, output = head.hidden(batch, output_hidden_states=bool(hidden_sinks))
            for hidden_sink in hidden_sinks:
                hidden_sink.update_hidden(batch, output.hidden_states)
            value, misses = head.measure(hidden, batch, measurement, uniforms, backward=bool(sinks))
            values.append(value)
            wrong.append(misses)
            start += len(rows)
            if keeper:
                keeper.keep(number, sinks, values, wrong)
    order = np.concatenate(plan)
    for sink in sinks:
        sink.finish(order)
    if keeper:
        keeper.forget()
    return _measured(examples, order, torch.cat(values), torch.cat(wrong), measurement)


def _head(model: nn.Module) -> nn.Module | None:
    return getattr(model, "get_output_embeddings", lambda: None)()  # type: ignore[no-any-return]


def _measured(examples: Examples, order: np.ndarray, values: Tensor, wrong: Tensor,
              measurement: Measurement) -> Measured:
    back = np.argsort(order)
    ordered = values.double().cpu().numpy()[back]
    bad = np.flatnonzero(~np.isfinite(ordered))
    if len(bad):
        raise WhenceError(f"the {measurement.name} of example {examples.ids[bad[0]]!r} is {ordered[bad[0]]} "
                          f"({len(bad)} of {len(ordered)} are not finite): check the weights and the data type")
    return Measured(ordered, wrong.cpu().numpy()[back])
