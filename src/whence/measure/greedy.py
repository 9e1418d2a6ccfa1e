"""What the model itself answers: greedy decoding from each prompt, the behaviour beside the measurement."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from whence.base.progress import track
from whence.data.examples import Examples


def greedy_answers(model: nn.Module, tokenizer: PreTrainedTokenizerBase, queries: Examples,
                   batch_size: int = 32) -> list[str]:
    """The greedy continuation of each prompt, up to EOS or four tokens more than the reference response.

    Every token is the plain arg-max, whatever the model's own generation settings say (sampling, penalties), so
    that an answer equals the response exactly where the sweep's `matches` says so. The prompt is everything
    before the first counted token; no answer goes beyond the positions that the model has, and a row without a
    prompt, or with one that fills them, gives an empty one. Its batch changes nothing of an answer, beyond rounding.
    """
    starts = [int(np.argmax(mask)) for mask in queries.is_response]
    limit = getattr(model.config, "max_position_embeddings", None) or max(queries.lengths, default=0) + 4
    rooms = [min(len(tokens) + 4, limit) - start for tokens, start in zip(queries.tokens, starts, strict=True)]
    answers = [""] * len(queries)
    able = [i for i in range(len(queries)) if starts[i] > 0 and rooms[i] > 0]
    order = sorted(able, key=lambda i: -len(queries.tokens[i]))
    batches = [order[at : at + batch_size] for at in range(0, len(order), batch_size)]
    with _evaluating(model), torch.inference_mode():
        for rows in track(batches, "greedy answers", len(batches)):
            prompts = [torch.from_numpy(queries.tokens[i][: starts[i]]) for i in rows]
            looked_at = [torch.from_numpy(queries.attended(i)[: starts[i]].astype(np.int64)) for i in rows]
            made = _continue(model, prompts, looked_at, max(rooms[i] for i in rows), limit,
                             tokenizer.eos_token_id).tolist()
            for i, tokens in zip(rows, made, strict=True):
                tokens = tokens[: rooms[i]]
                end = tokens.index(tokenizer.eos_token_id) if tokenizer.eos_token_id in tokens else len(tokens)
                answers[i] = str(tokenizer.decode(tokens[:end], skip_special_tokens=True))
    return answers


def _continue(model: nn.Module, prompts: Sequence[Tensor], looked_at: Sequence[Tensor], room: int, limit: int,
              eos: int | None) -> Tensor:
    """int64 [B, at most `room`]: the arg-max after each prompt (padded on the left), until all rows met `eos`.

    A row that is done goes on with the others; held at position `limit` - 1, it asks for none that is not there.
    """
    width, device = max(map(len, prompts)), next(model.parameters()).device
    ids, attention, inside = (torch.stack([nn.functional.pad(row, (width - len(row), 0)) for row in rows]).to(device)
                              for rows in (prompts, looked_at, [torch.ones_like(prompt) for prompt in prompts]))
    positions = (inside.cumsum(dim=1) - 1).clamp_min(0)
    options = _last_logits_only(model)
    made, cache = ids[:, :0], None
    while made.shape[1] < room and not (eos is not None and (made == eos).any(dim=1).all()):
        output = model(input_ids=ids, attention_mask=attention, position_ids=positions, past_key_values=cache,
                       use_cache=True, **options)
        ids, cache = output.logits[:, -1].argmax(dim=1, keepdim=True), output.past_key_values
        made = torch.cat([made, ids], dim=1)
        attention = torch.cat([attention, torch.ones_like(ids)], dim=1)
        positions = (positions[:, -1:] + 1).clamp_max(limit - 1)
    return made


def _last_logits_only(model: nn.Module) -> dict[str, Any]:
    """What tells a model's forward pass to leave out the logits over the prompt, if it can be told."""
    base = model.get_base_model() if isinstance(model, PeftModel) else model
    return {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(base.forward).parameters else {}


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside, every module in its own mode again after."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
