"""Two or three rows through the model, counted: matrix products, and what stays in memory for the way back.

Both are functions of the number of rows B and their length T,

    f(B, T) = fixed + B (linear T + square T^2),

exactly for the products and for what is saved, with three constants found from three probes: (2, T), (3, T) and
(2, T/2). Products are seen where the model calls them, so any architecture is counted alike; one operand that needs
a gradient costs one more product on the way back. Elementwise work is not counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from whence.data.batch import collate
from whence.data.examples import Examples
from whence.models.blocks import Block
from whence.plan.workload import BatchShape, Count, numbered
from whence.sweep.capture import captured, frozen
from whence.sweep.fused import fused
from whence.sweep.head import Head


@dataclass(frozen=True)
class Growth:
    """`fixed + B (linear T + square T^2)`."""

    fixed: float
    linear: float
    square: float

    def __call__(self, rows: int, length: int) -> float:
        return self.fixed + rows * (self.linear * length + self.square * length**2)

    @classmethod
    def through(cls, long: int, two: Count, three: Count, short: int, half: Count) -> Growth:
        """From the values at (2, long), (3, long) and (2, short)."""
        row, fixed = float(three - two), float(3 * two - 2 * three)
        if short == long:
            return cls(fixed, row / long, 0.0)
        square = (row / long - (half - fixed) / (2 * short)) / (long - short)
        return cls(fixed, row / long - square * long, square)


@dataclass(frozen=True)
class Probe:
    """What a forward pass and the way back to the blocks take.

    Attributes:
        forward, backward: multiply-adds without the output head.
        saved: bytes held between forward and backward: what autograd saves and the inputs of the blocks.
        head: multiply-adds of the output head for one position; counted positions only go through it.
        source: for each block, the first with the same inputs.
    """

    forward: Growth
    backward: Growth
    saved: Growth
    head: int
    source: tuple[int, ...]

    def forward_macs(self, shape: BatchShape) -> float:
        """Multiply-adds of a forward pass."""
        return self.forward(shape.rows, shape.length) + self.head * shape.counted

    def sweep_macs(self, shape: BatchShape) -> float:
        """Multiply-adds of a forward and a backward pass to the blocks."""
        return self.forward_macs(shape) + self.backward(shape.rows, shape.length) + self.head * shape.counted


def probe(model: nn.Module, blocks: Sequence[Block], examples: Examples, pad_id: int) -> Probe:
    """Count the longest of the examples beside the shortest: twice it, and both cut to half.

    A shorter row brings padding and its mask, where the examples have any.
    """
    order = np.argsort(-examples.lengths, kind="stable")
    top, other = int(order[0]), int(order[-1])
    long = int(examples.lengths[top])
    pair, three = numbered(examples, [top, other]), numbered(examples, [top, top, other])
    half = _halved(pair)
    head = Head(model, attributed=any(block.module is _output(model) for block in blocks))
    looks = [_look(model, blocks, rows, pad_id, head) for rows in (pair, three, half)]
    growths = {name: Growth.through(long, getattr(looks[0], name), getattr(looks[1], name), int(half.lengths.max()),
                                    getattr(looks[2], name)) for name in ("forward", "backward", "saved")}
    return Probe(**growths, head=looks[0].head, source=looks[0].source)


@dataclass
class _Look:
    forward: int = 0
    backward: int = 0
    saved: int = 0
    head: int = 0
    source: tuple[int, ...] = ()


def _look(model: nn.Module, blocks: Sequence[Block], examples: Examples, pad_id: int, head: Head) -> _Look:
    """One batch: forward with everything counted, and back, so that the blocks say whose inputs they share."""
    found, sources, inputs = _Look(), list(range(len(blocks))), []
    kept: dict[int, int] = {}
    weights = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}

    def hold(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
            inputs.append(tensor)  # so that no later tensor takes the same place
        return tensor

    def receive(index: int, source: int, a: Tensor, d: Tensor) -> None:
        sources[index] = source

    def at_block(module: nn.Module, args: tuple[Any, ...]) -> None:
        hold(args[0].detach())

    with ExitStack() as stack:
        stack.enter_context(frozen(model))
        stack.enter_context(fused(model))
        stack.enter_context(torch.enable_grad())
        stack.enter_context(captured(model, blocks, receive))
        for block in blocks:
            stack.callback(block.module.register_forward_pre_hook(at_block).remove)
        batch = collate(examples, range(len(examples)), pad_id).to(next(model.parameters()).device)
        if not head.checked and head.module is not None:
            with torch.no_grad():
                head.hidden(batch)  # finds out whether the head is apart
            kept.clear()
        with Products() as products, torch.autograd.graph.saved_tensors_hooks(hold, lambda tensor: tensor):
            hidden, _ = head.hidden(batch)
        found.saved = sum(kept.values())
        hidden.backward(torch.zeros_like(hidden))
    found.forward, found.backward = products.forward, products.backward
    module = head.module
    if module is not None:
        weight: Any = module.weight
        found.head = weight.numel()
        found.backward -= found.head  # the model's own call of it, for one position, has no way back
    found.source = tuple(sources)
    return found


class Products(TorchFunctionMode):
    """Counts multiply-adds of matrix products while open: of the calls, and of their way back."""

    def __init__(self) -> None:
        self.forward = 0
        self.backward = 0

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (),
                           kwargs: Mapping[str, Any] | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        counter = COUNTERS.get(func)
        if counter is not None and isinstance(result, Tensor):
            operands = [x for x in (*args, *(kwargs or {}).values()) if isinstance(x, Tensor)]
            macs, factors = counter(operands, result)
            self.forward += macs
            self.backward += int(macs * factors)
        return result


def _plain(operands: Sequence[Tensor], result: Tensor) -> tuple[int, float]:
    """`x y`: the numbers of the result times the inner size; one product back for each operand that needs it."""
    x, y = operands[0], operands[1]
    return result.numel() * x.shape[-1], float(x.requires_grad + y.requires_grad)


def _added(operands: Sequence[Tensor], result: Tensor) -> tuple[int, float]:
    """`b + x y`."""
    return _plain(operands[1:], result)


def _attention(operands: Sequence[Tensor], result: Tensor) -> tuple[int, float]:
    """`softmax(q k^T) v`: two products; on the way back four, and the first again, which was not kept."""
    q, k, v = operands[:3]
    macs = q.numel() * k.shape[-2] + result.numel() * v.shape[-2]
    return macs, 2.5 * any(x.requires_grad for x in (q, k, v))


COUNTERS: dict[Any, Callable[[Sequence[Tensor], Tensor], tuple[int, float]]] = {
    **dict.fromkeys((nn.functional.linear, torch.matmul, torch.mm, torch.bmm, Tensor.matmul, Tensor.__matmul__,
                     Tensor.mm, Tensor.bmm), _plain),
    **dict.fromkeys((torch.addmm, torch.baddbmm), _added),
    nn.functional.scaled_dot_product_attention: _attention}


def _output(model: nn.Module) -> nn.Module | None:
    return getattr(model, "get_output_embeddings", lambda: None)()  # type: ignore[no-any-return]


def _halved(examples: Examples) -> Examples:
    """The first half of each row, its last token counting, so that none is without; attention sees all of it."""
    tokens, masks = [], []
    for row, mask in zip(examples.tokens, examples.is_response, strict=True):
        size = max(2, math.ceil(len(row) / 2))
        kept = mask[:size].copy()
        kept[-1] = True
        tokens.append(row[:size])
        masks.append(kept)
    return replace(examples, tokens=tuple(tokens), is_response=tuple(masks), hidden=())
