"""What the model itself answers: greedy decoding from each prompt, the behaviour beside the measurement."""

from __future__ import annotations

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from whence.base.progress import track
from whence.data.examples import Examples


def greedy_answers(model: torch.nn.Module, tokenizer: PreTrainedTokenizerBase, queries: Examples,
                   batch_size: int = 32) -> list[str]:
    """The greedy continuation of each prompt, up to EOS or four tokens more than the reference response.

    The prompt is everything before the first counted token. Rows without a prompt give an empty answer.
    """
    starts = [int(np.argmax(mask)) for mask in queries.is_response]
    answers = [""] * len(queries)
    order = sorted((i for i in range(len(queries)) if starts[i] > 0), key=lambda i: -len(queries.tokens[i]))
    batches = [order[at : at + batch_size] for at in range(0, len(order), batch_size)]
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    device = next(model.parameters()).device
    for rows in track(batches, "greedy answers", len(batches)):
        width = max(starts[i] for i in rows)
        ids = torch.full((len(rows), width), pad)
        attention = torch.zeros_like(ids)
        for b, i in enumerate(rows):
            ids[b, width - starts[i] :] = torch.from_numpy(queries.tokens[i][: starts[i]])
            attention[b, width - starts[i] :] = 1
        room = max(len(queries.tokens[i]) - starts[i] for i in rows) + 4
        limit = getattr(model.config, "max_position_embeddings", None)
        room = min(room, limit - width) if limit else room
        if room <= 0:
            continue
        with torch.inference_mode():
            out = model.generate(input_ids=ids.to(device), attention_mask=attention.to(device), do_sample=False,  # type: ignore[operator]
                                 max_new_tokens=room, pad_token_id=pad, eos_token_id=tokenizer.eos_token_id)
        for b, i in enumerate(rows):
            answers[i] = str(tokenizer.decode(out[b, width:], skip_special_tokens=True))
    return answers
