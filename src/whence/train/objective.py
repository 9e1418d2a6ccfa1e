"""The training objective of one batch. Shapes: B examples, T positions, V vocabulary, M response tokens."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from whence.data.batch import IGNORE, Batch


def objective(model: nn.Module, batch: Batch, reduction: str) -> tuple[Float[Tensor, ""], int]:
    """The loss to descend, in nats, and the number M of response tokens in it.

    With S = the sum of -log p over all response tokens of the batch, `token` is S / M and `example` is S / B
    (so a step's gradient is the mean over its examples of the gradients that whence attributes).
    """
    output = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask,
                   position_ids=batch.position_ids, use_cache=False)
    targets_BT = batch.labels[:, 1:]  # the token at t is predicted at t - 1
    counts_BT = targets_BT != IGNORE
    logits_MV = output.logits[:, :-1][counts_BT]
    logits_MV = logits_MV.to(torch.promote_types(logits_MV.dtype, torch.float32))
    total = cross_entropy(logits_MV, targets_BT[counts_BT], reduction="sum")
    tokens = logits_MV.shape[0]
    return total / (tokens if reduction == "token" else batch.labels.shape[0]), tokens
