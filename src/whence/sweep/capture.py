"""Hooks that hand out, for every block, its inputs `a` and the gradient `d` at its outputs.

For a linear map with inputs a_t and output gradients d_t the gradient of example i is the sum over its
positions of the outer product d_t a_t^T (and, for a bias, of d_t). No weight gradient is ever formed: the
weights are frozen and the graph starts at the first block's output.

Shapes: B examples of a batch, T positions, in and out the block's sizes, P = out * in (+ out with a bias).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from whence.base.errors import WhenceError
from whence.models.blocks import Block


@dataclass
class Captured:
    """One block's share of a batch.

    Attributes:
        block: index of the block in the sweep's list.
        source: index of the first block that reads the same inputs (q, k and v of a layer; gate and up), so that
            what is made of `a` alone is made once for all of them.
        a: inputs, [B, T, in].
        d: gradient of the summed measurement at the outputs, [B, T, out]; zero at padding.
        reach: bool [B, T], False at padding and after the last prediction of a row, where d is zero.
        at: where the batch's rows stand in sweep order.
        bias: whether the block's bias is part of the gradient.
    """

    block: int
    source: int
    a: Float[Tensor, "B T in"]
    d: Float[Tensor, "B T out"]
    reach: Bool[Tensor, "B T"]
    at: slice
    bias: bool
    _gradients: Tensor | None = field(default=None, repr=False)

    def gradients(self, out: Tensor | None = None) -> Float[Tensor, "B P"]:
        """Per-example gradients, `sum_t d_t a_t^T` row-major over [out, in], then the bias's `sum_t d_t`.

        Formed once and shared by all sinks, in float32 or better; with `out` (a slice of a kept buffer) in
        place, which saves the page faults of a fresh allocation.
        """
        if self._gradients is None:
            dtype = torch.promote_types(self.a.dtype, torch.float32)
            a, d = self.a.to(dtype), self.d.to(dtype)
            size, weights = len(a), a.shape[2] * d.shape[2]
            total = weights + d.shape[2] * self.bias
            if out is None:
                out = torch.empty(size, total, dtype=dtype, device=a.device)
            if self.bias:
                out[:, :weights] = torch.bmm(d.mT, a).view(size, weights)
                torch.sum(d, dim=1, out=out[:, weights:])
            else:
                torch.bmm(d.mT, a, out=out.view(size, d.shape[2], a.shape[2]))
            self._gradients = out
        return self._gradients


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, no parameter needs a gradient, no key-value cache; all restored afterwards."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    modes = {module: module.training for module in model.modules()}
    config: Any = getattr(model, "config", None)
    cache = getattr(config, "use_cache", None)
    try:
        model.requires_grad_(False)
        model.eval()
        if cache is not None:
            config.use_cache = False
        yield
    finally:
        for parameter in trainable:
            parameter.requires_grad_(True)
        for module, mode in modes.items():
            module.training = mode
        if cache is not None:
            config.use_cache = cache


@contextmanager
def captured(model: nn.Module, blocks: Sequence[Block],
             receive: Callable[[int, int, Tensor, Tensor], None]) -> Iterator[None]:
    """While open, each forward and backward of `model` calls `receive(block, source, a, d)` for every block.

    Blocks are told by their index; `source` is the first block of this forward pass with the same inputs.

    Raises:
        WhenceError: a block runs twice in one forward pass (its gradient would be a sum over the calls).
    """
    seen: set[int] = set()
    sources: dict[int, tuple[Tensor, int]] = {}  # the tensors are kept, so that their ids stay theirs

    def forward_hook(index: int) -> Callable[..., Tensor]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
            if index in seen:
                raise WhenceError(f"block {blocks[index].name!r} runs more than once in a forward pass (shared "
                                  "weights); leave it out of the chosen blocks")
            seen.add(index)
            if not output.requires_grad:
                output = output.detach().requires_grad_()
            a, source = args[0].detach(), sources.setdefault(id(args[0]), (args[0], index))[1]
            output.register_hook(lambda d: receive(index, source, a, d))
            return output

        return hook

    def forget(*_: Any) -> None:
        seen.clear()
        sources.clear()

    handles = [model.register_forward_pre_hook(forget)]
    try:
        for index, block in enumerate(blocks):
            handles.append(block.module.register_forward_hook(forward_hook(index)))
        yield
    finally:
        for handle in handles:
            handle.remove()
