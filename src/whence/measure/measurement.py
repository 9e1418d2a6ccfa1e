"""What is explained: differentiable measurements of a model on an example, each with its unit.

A measurement maps the logits at an example's counted positions to one number an example. Its gradient is
what is attributed; `greedy_matches` and `greedy.py` are its non-differentiable
companions.

Shapes: n counted positions in the batch (all examples together), V vocabulary, B examples.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F


@runtime_checkable
class Measurement(Protocol):
    """One number for each example, from the logits at its counted positions."""

    name: str
    unit: str

    def __call__(self, logits: Float[Tensor, "n V"], targets: Int[Tensor, " n"], owners: Int[Tensor, " n"],
                 size: int) -> Float[Tensor, " B"]:
        """Values of the `size` examples of a batch; `owners[i]` is the example that position i belongs to."""
        ...


class LogProb:
    """Log-probability of the response given the prompt, `sum_t log p(y_t | x, y_<t)`, in nats.

    Its negative is the training loss of an example (sum over response tokens), so `LogProb` of the queries
    against `LogProb` of the training rows gives the classical influence on the loss with the sign of a
    proponent: `grad log p(query) . grad log p(train)`.
    """

    name, unit = "log_prob", "nats"

    def __call__(self, logits: Float[Tensor, "n V"], targets: Int[Tensor, " n"], owners: Int[Tensor, " n"],
                 size: int) -> Float[Tensor, " B"]:
        tokenwise = -F.cross_entropy(_full(logits), targets, reduction="none")
        return _sum_by_owner(tokenwise, owners, size)


class LogOdds:
    """Log-odds of the response, `sum_t log p_t / (1 - p_t)`, in nats (Park et al. 2023, TRAK, eq. 9).

    Unlike the log-probability it keeps its gradient where the model is already certain.
    """

    name, unit = "log_odds", "nats"

    def __call__(self, logits: Float[Tensor, "n V"], targets: Int[Tensor, " n"], owners: Int[Tensor, " n"],
                 size: int) -> Float[Tensor, " B"]:
        logits = _full(logits)
        chosen = logits.gather(1, targets[:, None])
        others = logits.scatter(1, targets[:, None], -torch.inf).logsumexp(dim=1)
        return _sum_by_owner(chosen[:, 0] - others, owners, size)


def greedy_matches(logits: Float[Tensor, "n V"], targets: Int[Tensor, " n"], owners: Int[Tensor, " n"],
                   size: int) -> Int[Tensor, " B"]:
    """How many counted tokens of each example differ from the model's greedy choice; 0 = exact match.

    Greedy decoding from the prompt reproduces the response exactly if and only if every token of it is the
    arg-max given the true tokens before it, so no generation is needed.
    """
    wrong = (logits.argmax(dim=1) != targets).long()
    return torch.zeros(size, dtype=torch.long, device=logits.device).index_add_(0, owners, wrong)


def _full(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()


def _sum_by_owner(tokenwise: Tensor, owners: Tensor, size: int) -> Tensor:
    return torch.zeros(size, dtype=tokenwise.dtype, device=tokenwise.device).index_add_(0, owners, tokenwise)


MEASUREMENTS: dict[str, type[LogProb] | type[LogOdds]] = {kind.name: kind for kind in (LogProb, LogOdds)}
