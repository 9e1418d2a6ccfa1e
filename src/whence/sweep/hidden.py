"""A sink for representations: the hidden state of a row at chosen layers, one vector for each choice of token.

Shapes: B examples, T positions, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from whence.base.errors import WhenceError
from whence.data.batch import IGNORE, Batch

Token = Literal["last_prompt", "last_response", "mean"]
TOKENS: tuple[Token, ...] = get_args(Token)


class HiddenStates:
    """Collects [N, D] for every (layer, token) asked for.

    Layers count as in transformers: 0 = embeddings, l = output of layer l, -1 = the last (after the final
    normalisation). Tokens: `last_prompt` = the position that predicts the first counted token,
    `last_response` = the last position of the row, `mean` = the mean over all its positions; positions that the
    example hides from attention are left out of both.

    Raises:
        WhenceError: an unknown token, or (with the first batch) a layer that the model does not have.
    """

    def __init__(self, choices: Sequence[tuple[int, str]]) -> None:
        self.choices = tuple(dict.fromkeys((layer, known_token(token)) for layer, token in choices))
        self._parts: dict[tuple[int, Token], list[Tensor]] = {choice: [] for choice in self.choices}
        self._rows: list[Tensor] = []

    def update_hidden(self, batch: Batch, hidden: Sequence[Tensor]) -> None:
        """Take the chosen vectors of one batch."""
        self._rows.append(batch.rows)
        for layer, token in self.choices:
            if not -len(hidden) <= layer < len(hidden):
                raise WhenceError(f"layer {layer} does not exist: this model has {len(hidden) - 1} layers; choose "
                                  f"0 (embeddings) to {len(hidden) - 1}, or -1 for the last")
            state = hidden[layer].detach()
            state = state if state.dtype == torch.float64 else state.float()
            weights = token_weights(batch, token, state.dtype).to(state.device)
            self._parts[layer, token].append(torch.einsum("btd,bt->bd", state, weights))

    def get(self, layer: int, token: Token) -> Float[np.ndarray, "N D"]:
        """Float64 vectors in the order of the examples."""
        back = torch.argsort(torch.cat(self._rows))
        return torch.cat(self._parts[layer, token])[back].double().cpu().numpy()


def known_token(name: str) -> Token:
    """`name`, if it is a choice of token."""
    for token in TOKENS:
        if name == token:
            return token
    raise WhenceError(f"token={name}: expected {', '.join(TOKENS[:-1])} or {TOKENS[-1]}")


def token_weights(batch: Batch, token: Token, dtype: torch.dtype = torch.float32) -> Float[Tensor, "B T"]:
    """Weights that sum to 1 over the positions of each row and pick the chosen token."""
    width = batch.labels.shape[1]
    if token == "mean":
        real = batch.attention_mask.to(dtype)
        return real / real.sum(dim=1, keepdim=True)
    counted: Bool[Tensor, "B T"] = batch.labels != IGNORE
    real_at = torch.where(batch.attention_mask.bool(), torch.arange(width, device=counted.device), -1)
    at = counted.int().argmax(dim=1) - 1 if token == "last_prompt" else real_at.max(dim=1).values
    return torch.nn.functional.one_hot(at, width).to(dtype)
