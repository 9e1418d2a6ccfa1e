"""Exact products with the Gauss-Newton matrix of a model with respect to its blocks.

With z_i [n_i, C] the outputs of example i (the logits at its counted tokens), J_i their Jacobian with respect to the
weights and biases of the chosen blocks, and H the Hessian of the loss in z, summed over the n_i outputs,

    G = (1/N) sum_i J_i^T H_i J_i        softmax: H u = p * (u - <p, u>), position by position

G is the Hessian of the PBRF's objective at the trained weights (Grosse et al. 2023, eq. 9; Bae et al. 2022) and, for
the softmax, the Fisher matrix; the labels of the data play no part in it. Schraudolph 2002.

How a product with K vectors is made. Moving a block's weights by (dW, db) moves its output by t = a dW^T + db and
touches nothing else, so J v is the effect of adding t at the blocks' outputs. One forward pass of a batch records a
and keeps the graph; one backward pass from symbolic u gives d(u) = dz/d(outputs)^T u as a graph that is linear in u.
Both are shared by all vectors; then, for a few vectors at a time,

    v -> t = a dW^T + db -> J v (the transpose of d(u), applied to t) -> H J v -> d -> J^T H J v = sum_t d a^T

Cost of one vector: two products as large as a forward pass (t, d a^T) and two passes to activations (J v, d), and for
all of them a forward pass and a backward pass to activations. Measured on a GPT-2 of width 256 and one CPU thread, in
plain forward and backward passes over the same rows: 2.0 to 2.2 for one vector, 6.9 for 5, 29 for 25. Nothing of
size P x P or n x P is ever formed. Memory: the graphs of one batch, a few copies of the activations for each vector
taken at once, and the vectors and their images.

Shapes: K vectors, B examples, T positions, n outputs of a batch, C classes, in and out a block's sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from whence.base.errors import WhenceError
from whence.curvature.blockwise import Product
from whence.data.batch import PaddingSide, collate, plan_batches
from whence.data.examples import Examples
from whence.models.blocks import Block
from whence.sweep.capture import frozen
from whence.sweep.head import counted_logits

TOGETHER = 8  # vectors taken at once, at most

Outputs = Callable[[np.ndarray], Tensor]
Plan = Callable[[np.ndarray, int], Sequence[np.ndarray]]
OutputHessian = Callable[[Tensor, Tensor], Tensor]


def softmax_hessian(z: Float[Tensor, "n C"], u: Float[Tensor, "K n C"]) -> Float[Tensor, "K n C"]:
    """`(diag(p) - p p^T) u` for p = softmax(z): the Hessian of the cross-entropy, whatever the label. Overwrites u."""
    p = z.softmax(dim=-1)
    return u.sub_(torch.linalg.vecdot(p.expand_as(u), u)[..., None]).mul_(p)


def squared_error_hessian(z: Float[Tensor, "n C"], u: Float[Tensor, "K n C"]) -> Float[Tensor, "K n C"]:
    """`u`: the Hessian of 1/2 |z - y|^2 is the identity."""
    return u


def in_turn(rows: np.ndarray, positions: int) -> Sequence[np.ndarray]:
    """Batches of `positions` examples, for models where an example is one position."""
    return np.array_split(rows, max(1, -(-len(rows) // positions)))


@dataclass(frozen=True)
class GaussNewton:
    """G of `model` over the examples `rows`, with respect to `blocks`.

    Attributes:
        model: run in evaluation mode with its weights frozen; left as it was after each product.
        blocks: the linear maps whose weights and biases are the coordinates, in this order.
        outputs: runs the model on the examples at some rows and gives their outputs z [n, C]; summed over, so that
            an example may have any number of them.
        rows: indices of the N examples the mean is over, each once.
        hessian: `(z, u) -> H u`, the Hessian of the loss in z; it may overwrite u.
        plan: `(rows, positions) ->` batches of rows of about so many positions each.
        positions: positions x vectors computed together. On a CPU the default keeps every temporary of a model of
            moderate width in memory that is used again; an accelerator wants it as large as its memory allows.
    """

    model: nn.Module
    blocks: Sequence[Block]
    outputs: Outputs
    rows: np.ndarray
    hessian: OutputHessian = softmax_hessian
    plan: Plan = in_turn
    positions: int = 4096

    def __post_init__(self) -> None:
        if len(self.rows) == 0:
            raise WhenceError("no examples: a Gauss-Newton matrix is a mean over at least one")
        if self.positions < 1:
            raise WhenceError(f"positions={self.positions}: expected at least 1")

    @classmethod
    def of_language_model(cls, model: nn.Module, examples: Examples, blocks: Sequence[Block], *, pad_id: int = 0,
                          side: PaddingSide = "right", positions: int = 4096) -> GaussNewton:
        """G of a causal language model: its logits at the counted tokens of `examples`, and the softmax."""
        device = next(model.parameters()).device

        def logits(rows: np.ndarray) -> Tensor:
            return counted_logits(model, collate(examples, rows, pad_id, side).to(device))

        def plan(rows: np.ndarray, positions: int) -> Sequence[np.ndarray]:
            return [rows[some] for some in plan_batches(examples.select(rows), positions)]

        return cls(model, blocks, logits, np.arange(len(examples)), softmax_hessian, plan, positions)

    def on(self, rows: np.ndarray) -> GaussNewton:
        """The same over other examples: a mini-batch."""
        return replace(self, rows=np.asarray(rows))

    def mini_batches(self, size: int) -> Callable[[np.random.Generator], Product]:
        """Draws the product of a mini-batch of `size` examples, without replacement: what `neumann` takes.

        Raises:
            WhenceError: more examples than there are, or none.
        """
        if not 1 <= size <= len(self.rows):
            raise WhenceError(f"a mini-batch of {size} examples: expected 1 to {len(self.rows)}")
        return lambda rng: self.on(rng.choice(self.rows, size=size, replace=False)).product

    @property
    def dtype(self) -> torch.dtype:
        """What vectors are kept and sums accumulated in: float32, or float64 for a float64 model."""
        return torch.promote_types(next(self.model.parameters()).dtype, torch.float32)

    def product(self, vectors: Sequence[Float[Tensor, "K _"]]) -> list[Float[Tensor, "K _"]]:
        """`G v` for K vectors at once; `vectors[b]` is [K, P_b] in the layout of `Captured.gradients`.

        Raises:
            WhenceError: vectors of another shape than the blocks'; a product that is not finite; a block that runs
                twice in a forward pass.
        """
        self._check(vectors)
        count = len(vectors[0])
        if count == 0:
            return [torch.zeros_like(v) for v in vectors]
        together = -(-count // -(-count // TOGETHER))  # even shares: 25 vectors as 7, 7, 7, 4
        device = next(self.model.parameters()).device
        maps = [_Map(block, v.to(device, self.dtype)) for block, v in zip(self.blocks, vectors, strict=True)]
        with frozen(self.model), torch.enable_grad(), _twice_differentiable(self.model):
            for rows in self.plan(self.rows, max(1, self.positions // together)):
                self._add_batch(maps, rows, together)
        return [m.finish(len(self.rows)) for m in maps]

    def _add_batch(self, maps: Sequence[_Map], rows: np.ndarray, together: int) -> None:
        with _recorded(self.model, self.blocks) as (inputs, outputs):
            z = self.outputs(rows)
        ran = [b for b, output in enumerate(outputs) if output is not None]
        places = [outputs[b] for b in ran]
        if not places or not z.requires_grad:
            return
        u = torch.zeros_like(z, requires_grad=True)
        d_of_u = torch.autograd.grad(z, places, u, create_graph=True, allow_unused=True)
        alive = [i for i, d in enumerate(d_of_u) if d is not None and d.requires_grad]
        ran, places, linear = [ran[i] for i in alive], [places[i] for i in alive], [d_of_u[i] for i in alive]
        logits = z.detach().to(self.dtype)
        for start in range(0, len(maps[0].v), together):
            at = slice(start, start + together)
            with torch.no_grad():
                t = [maps[b].moved(at, inputs[b]).to(place.dtype).view(-1, *place.shape)
                     for b, place in zip(ran, places, strict=True)]
            (Jv,) = torch.autograd.grad(linear, u, t, is_grads_batched=True, retain_graph=True)
            with torch.no_grad():
                HJv = self.hessian(logits, Jv.to(self.dtype)).to(z.dtype)
            d = torch.autograd.grad(z, places, HJv, is_grads_batched=True, retain_graph=True)
            with torch.no_grad():
                for b, share in zip(ran, d, strict=True):
                    maps[b].collect(at, inputs[b], share)

    def _check(self, vectors: Sequence[Tensor]) -> None:
        met = [tuple(v.shape) for v in vectors]
        expected = [(len(vectors[0]) if len(vectors) else 0, block.parameters) for block in self.blocks]
        if met != expected:
            raise WhenceError(f"vectors of shapes {met[:4]}; expected [K, P] for each of the {len(self.blocks)} "
                              f"blocks: {expected[:4]}")


class _Map:
    """One block's part: weights' directions in, weights' sums out, both kept as [K, out, in] and [K, out]."""

    def __init__(self, block: Block, v: Float[Tensor, "K P"]) -> None:
        self.block, self.v = block, v
        weights = block.outputs * block.inputs
        self.dW = v[:, :weights].unflatten(1, (block.outputs, block.inputs))
        self.db = v[:, weights:]
        self.sum = torch.zeros_like(v)
        self.sum_W = self.sum[:, :weights].unflatten(1, (block.outputs, block.inputs))
        self.sum_b = self.sum[:, weights:]

    def moved(self, at: slice, a: Tensor) -> Float[Tensor, "k positions out"]:
        """t = a dW^T + db."""
        a = a.reshape(1, -1, self.block.inputs).to(self.v.dtype)
        dW = self.dW[at]
        t = torch.bmm(a.expand(len(dW), -1, -1), dW.mT)
        if self.block.bias:
            t += self.db[at, None]
        return t

    def collect(self, at: slice, a: Tensor, d: Tensor) -> None:
        """Add `sum over positions of d a^T`, and of d."""
        a = a.reshape(1, -1, self.block.inputs).to(self.v.dtype)
        d = d.reshape(len(d), -1, self.block.outputs).to(self.v.dtype)
        self.sum_W[at].baddbmm_(d.mT, a.expand(len(d), -1, -1))
        if self.block.bias:
            self.sum_b[at] += d.sum(dim=1)

    def finish(self, count: int) -> Tensor:
        if not bool(self.sum.isfinite().all()):
            raise WhenceError(f"the Gauss-Newton product is not finite at block {self.block.name!r}: check the vectors "
                              "(were they finite?), the weights and the data type")
        return self.sum.div_(count)


@contextmanager
def _recorded(model: nn.Module, blocks: Sequence[Block]) -> Iterator[tuple[list[Any], list[Any]]]:
    """While open, a forward pass leaves each block's input and its output, where the graph starts or goes through."""
    inputs: list[Any] = [None] * len(blocks)
    outputs: list[Any] = [None] * len(blocks)

    def hook_of(index: int) -> Callable[..., Tensor]:
        def hook(_: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
            if outputs[index] is not None:
                raise WhenceError(f"block {blocks[index].name!r} runs more than once in a forward pass (shared "
                                  "weights); leave it out of the chosen blocks")
            output = output if output.requires_grad else output.detach().requires_grad_()
            inputs[index], outputs[index] = args[0].detach(), output
            return output

        return hook

    handles = [block.module.register_forward_hook(hook_of(b)) for b, block in enumerate(blocks)]
    try:
        yield inputs, outputs
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _twice_differentiable(model: nn.Module) -> Iterator[None]:
    """Attention as plain matrix products and a softmax: the fused kernels have no second derivative."""
    config: Any = getattr(model, "config", None)
    kind = getattr(config, "_attn_implementation", None)
    fused = kind is not None and kind not in ("eager", "sdpa")
    try:
        if fused:
            plain = "sdpa" if getattr(model, "_supports_sdpa", False) else "eager"
            model.set_attn_implementation(plain)  # type: ignore[operator]
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        if fused:
            model.set_attn_implementation(kind)  # type: ignore[operator]
