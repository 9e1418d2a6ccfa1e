"""Output-token influence: which tokens of a training example become likelier as the model moves towards a query.

    theta' = theta + alpha x_q,     x_q = (C + lambda I)^-1 grad f(q)
    s[q, i, t] = (1/N) d/d alpha log p(y_t | y_<t; theta')        (Grosse et al. 2023, arXiv 2308.03296, eq. 36)

for the counted tokens y_t, 0 elsewhere. Influence is symmetric: what training on token t would do for the query is
what moving towards the query does for token t. So here, other than in `tokens.py`, each number belongs to one
predicted token, and stands AT that token; and again the sum over t is the score. Unit: nats.

Cost: forward passes only, for all tokens at once: two a step, and five to seven steps a query, which also tell how
linear the function is there (see `shift.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
from torch.nn import functional as F

from whence.data.batch import collate, plan_batches
from whence.data.examples import Examples
from whence.models.blocks import Block
from whence.sweep.head import Head
from whence.sweep.sweep import Layout
from whence.views.shift import TOLERANCE, along_queries
from whence.views.tokenwise import Tokenwise

WHAT = "influence of predicting this very token, given the tokens before it; only counted tokens have one"


def output_token_influence(model: nn.Module, examples: Examples, blocks: Sequence[Block],
                           preconditioned: Sequence[Tensor], train_size: int, *, tolerance: float = TOLERANCE,
                           pad_id: int = 0, layout: Layout | None = None) -> Tokenwise:
    """Output-token influence of `examples` on Q queries; `facts["queries"][q]` holds the step and its check.

    The weights are moved in place and restored bit for bit, whatever happens. `tolerance`: see `directional`.

    Raises:
        WhenceError: gradients that do not fit the blocks; half-precision weights; N below 1.
    """
    found, facts = along_queries(model, blocks, preconditioned, train_size,
                                 lambda: token_log_probs(model, examples, pad_id, layout), tolerance)
    values = tuple(np.zeros((len(found), length)) for length in examples.lengths)
    for row, part in enumerate(np.split(found, np.cumsum(examples.response_lengths)[:-1], axis=1)):
        values[row][:, examples.is_response[row]] = part
    return Tokenwise(examples.ids, values, WHAT, examples.response_lengths, None,
                     {"n_train": train_size, "difference": "central, extrapolated (Ridders)", "queries": facts})


@torch.no_grad()
def token_log_probs(model: nn.Module, examples: Examples, pad_id: int = 0,
                    layout: Layout | None = None) -> Float64[np.ndarray, " counted"]:
    """log p(y_t | y_<t) of every counted token, in nats: examples in their order, tokens in theirs."""
    layout = layout or Layout()
    device, head = next(model.parameters()).device, Head(model, attributed=False)
    parts: dict[int, np.ndarray] = {}
    for rows in plan_batches(examples, layout.batch_tokens, layout.batch_size):
        batch = collate(examples, rows, pad_id, layout.side).to(device)
        hidden, _ = head.hidden(batch)
        values = -F.cross_entropy(head_logits(head, hidden), batch.targets, reduction="none").cpu().double().numpy()
        ends = np.cumsum(examples.response_lengths[rows])[:-1]
        parts.update(zip((int(row) for row in rows), np.split(values, ends), strict=True))
    return np.concatenate([parts[row] for row in range(len(examples))])


def head_logits(head: Head, hidden: Float[Tensor, "n width"]) -> Float[Tensor, "n V"]:
    """Logits at the counted positions, in float32 or better."""
    logits = hidden if head.module is None else head.module(hidden)
    return logits if logits.dtype == torch.float64 else logits.float()
