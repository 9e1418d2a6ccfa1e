"""Input-token influence: which tokens of a training example, as inputs, its influence on a query hangs on.

The embedding e_t of the token at t is scaled to (1 + eps_t) e_t:

    s[q, i, t] = (1/N) d/d alpha  d/d eps_t log p(z_i; theta + alpha x_q)   at alpha = 0, eps = 0
               = (1/N) d/d alpha  < e_t, grad_{e_t} log p(z_i; theta + alpha x_q) >

(Grosse et al. 2023, arXiv 2308.03296, eq. 38): by how much the score of example i would change, relative to eps,
were token t felt more strongly. The number stands at the token itself. It is a second derivative, of the score by
its inputs: its sum over t is NOT the score. Unit: nats for a doubling, to first order.

Cost: for all tokens at once two backward passes a step, and five to seven steps a query, which also tell how linear the
function is there (see `shift.py`). Position embeddings and later layers are left as they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn
from torch.nn import functional as F

from whence.data.batch import collate, plan_batches
from whence.data.examples import Examples
from whence.models.blocks import Block
from whence.sweep.head import Head
from whence.sweep.sweep import Layout
from whence.views.output_tokens import head_logits
from whence.views.shift import TOLERANCE, along_queries
from whence.views.tokenwise import Tokenwise, influencing_positions

WHAT = ("change of this example's score if the token's embedding were scaled up, relative to the scaling; the sum "
        "over tokens is not the score")


def input_token_influence(model: nn.Module, examples: Examples, blocks: Sequence[Block],
                          preconditioned: Sequence[Tensor], train_size: int, *, tolerance: float = TOLERANCE,
                          pad_id: int = 0, layout: Layout | None = None) -> Tokenwise:
    """Input-token influence of `examples` on Q queries; `facts["queries"][q]` holds the step and its check.

    The weights are moved in place and restored bit for bit, whatever happens. `tolerance`: see `directional`.

    Raises:
        WhenceError: gradients that do not fit the blocks; half-precision weights; N below 1.
    """
    found, facts = along_queries(model, blocks, preconditioned, train_size,
                                 lambda: scaling_gradients(model, examples, pad_id, layout), tolerance)
    values = tuple(np.split(found, np.cumsum(examples.lengths)[:-1], axis=1))
    return Tokenwise(examples.ids, values, WHAT, influencing_positions(examples), None,
                     {"n_train": train_size, "difference": "central, extrapolated (Ridders)", "queries": facts})


def scaling_gradients(model: nn.Module, examples: Examples, pad_id: int = 0,
                      layout: Layout | None = None) -> Float64[np.ndarray, " tokens"]:
    """<e_t, grad_{e_t} log p(z_i)> of every token: examples in their order, tokens in theirs."""
    layout = layout or Layout()
    device, head = next(model.parameters()).device, Head(model, attributed=False)
    parts: list[np.ndarray] = [np.zeros(0)] * len(examples)
    for rows in plan_batches(examples, layout.batch_tokens, layout.batch_size):
        batch = collate(examples, rows, pad_id, layout.side).to(device)
        with torch.enable_grad(), _embeddings(model) as seen:
            hidden, _ = head.hidden(batch)
            # rows do not meet, so one backward pass serves them all
            value = -F.cross_entropy(head_logits(head, hidden), batch.targets, reduction="sum")
            (gradient,) = torch.autograd.grad(value, seen[-1])
        products = (seen[-1].detach().cpu().double() * gradient.cpu().double()).sum(dim=2).numpy()
        for place, row in enumerate(rows):
            length, width = int(examples.lengths[row]), products.shape[1]
            at = slice(width - length, width) if layout.side == "left" else slice(0, length)
            parts[int(row)] = products[place, at]
    return np.concatenate(parts)


@contextmanager
def _embeddings(model: nn.Module) -> Iterator[list[Tensor]]:
    """While open, the token embeddings of a forward pass are leaves of the graph, and put into the list."""
    seen: list[Tensor] = []
    table: nn.Module = model.get_input_embeddings()  # type: ignore[operator]

    def hook(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        seen.append(output.detach().requires_grad_())
        return seen[-1]

    handle = table.register_forward_hook(hook)
    try:
        yield seen
    finally:
        handle.remove()
