"""Rows to `Examples`: each row rendered as one text, tokenised whole, masked by character offsets.

A token counts as response if it ends beyond the beginning of a span that counts. So a token that covers the
last character of the prompt and the first of the response counts: the model does produce it.

    prompt + completion    The answer is | yes.
    tokens                 <s>  The   answer   is  yes  .   </s>
    counts                  -    -      -      -    x   x     x
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from transformers import PreTrainedTokenizerBase

from whence.base.errors import WhenceError
from whence.data.chat import render_chat
from whence.data.examples import Examples
from whence.data.formats import Rendered, recognise, render_completion, render_text
from whence.data.read import read_rows
from whence.data.rows import Rows
from whence.data.tokenizer import require_fast

ROWS_AT_A_TIME = 1024  # offsets are Python tuples: some hundred bytes a token while they live


def load_examples(source: object, tokenizer: PreTrainedTokenizerBase, *,
                  columns: Mapping[str, str] | None = None, split: str | None = None,
                  template: str | None = None, max_length: int | None = None, eos: bool = True) -> Examples:
    """`read_rows`, then `encode`; see there."""
    rows = read_rows(source, columns, split)
    return encode(rows, tokenizer, template=template, max_length=max_length, eos=eos)


def encode(rows: Rows, tokenizer: PreTrainedTokenizerBase, *, template: str | None = None,
           max_length: int | None = None, eos: bool = True) -> Examples:
    """Tokenise every row, and say which tokens count in the loss.

    Args:
        rows: in one of the three formats, see `whence.data.formats`.
        tokenizer: fast. The special tokens it adds by itself are kept, but a doubled EOS is made one.
        template: text around prompt and completion, such as `[INST] {prompt} [/INST] {completion}`.
        max_length: tokens beyond this many are cut off at the end.
        eos: close text and prompt + completion with the EOS token, which counts. A conversation ends as its
            chat template ends it, whatever `eos` says.

    Raises:
        WhenceError: a cell that is no string, an empty response, a template that does not fit, a slow
            tokenizer or one without EOS or chat template, a row that keeps no response token within
            `max_length`.
    """
    require_fast(tokenizer)
    if max_length is not None and max_length < 2:
        raise WhenceError(f"max_length {max_length}: expected at least 2, as the first token never counts")
    rendered, chat = _render(rows, tokenizer, template)
    if eos and not chat and tokenizer.eos_token_id is None:
        raise WhenceError("the tokenizer has no EOS token to end an example with; set tokenizer.eos_token, "
                          "or pass eos=False")
    whole: list[tuple[np.ndarray, np.ndarray]] = []
    for start in range(0, len(rendered), ROWS_AT_A_TIME):
        whole += _tokenise(rows, rendered, start, tokenizer, chat, eos)
    _check_room(rows, [mask for _, mask in whole], max_length)
    return Examples(
        ids=rows.ids(), groups=rows.groups(),
        prompts=tuple(r.prompt for r in rendered), responses=tuple(r.response for r in rendered),
        tokens=tuple(ids[:max_length] for ids, _ in whole),
        is_response=tuple(mask[:max_length] for _, mask in whole),
        truncated=tuple(max_length is not None and len(ids) > max_length for ids, _ in whole))


def describe(examples: Examples) -> str:
    """One line: `900 examples, 41,203 tokens (9,120 in responses), 3 truncated at 128, longest 128`."""
    n = examples.summary()
    at = f" at {n['longest']:,}" if n["truncated"] else ""  # whatever was cut is as long as the limit
    return (f"{n['examples']:,} examples, {n['tokens']:,} tokens ({n['response_tokens']:,} in responses), "
            f"{n['truncated']:,} truncated{at}, longest {n['longest']:,}")


def is_chat(rows: Rows) -> bool:
    """Whether a chat template renders these rows: `messages`, or prompt and completion that are lists of them."""
    kind = recognise(rows)
    return kind == "messages" or (kind == "prompt+completion" and isinstance(rows.columns["prompt"][0], list))


def _render(rows: Rows, tokenizer: PreTrainedTokenizerBase,
            template: str | None) -> tuple[list[Rendered], bool]:
    """The rows as texts, and whether a chat template wrote them."""
    kind = recognise(rows)
    names = ("messages",) if kind == "messages" else ("prompt", "completion")
    chat = is_chat(rows)
    if template is not None and (chat or kind == "text"):
        raise WhenceError(f"{rows.source}: template {template!r} is for a prompt and a completion that are "
                          f"strings; these are {'conversations' if chat else 'plain text'}, so leave it out")
    if chat:
        return render_chat(rows, names, tokenizer), True
    return (render_text(rows) if kind == "text" else render_completion(rows, template)), False


def _tokenise(rows: Rows, rendered: list[Rendered], start: int, tokenizer: PreTrainedTokenizerBase,
              chat: bool, eos: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    """Token ids and response mask of the next rows from `start`."""
    part = rendered[start : start + ROWS_AT_A_TIME]
    encoded = tokenizer([r.text for r in part], add_special_tokens=not chat, return_offsets_mapping=True,
                        return_special_tokens_mask=True, verbose=False)
    columns = (encoded["input_ids"], encoded["offset_mapping"], encoded["special_tokens_mask"])
    pairs = []
    for row, (ids, offsets, special) in enumerate(zip(*columns, strict=True), start=start):
        # special is 1 for what the tokenizer adds around the text; it covers no character
        mask = _mask(rendered[row].spans, np.array(offsets).reshape(-1, 2)) & (np.array(special) == 0)
        if not mask.any():
            raise WhenceError(f"{rows.where(row)}: the tokenizer makes no token of the response "
                              f"{rendered[row].response!r:.60}")
        if not chat:
            ids, mask = _close(rows, row, ids, mask, special, tokenizer, eos)
        mask[0] = False  # nothing predicts the first token
        pairs.append((np.array(ids, dtype=np.int64), mask))
    return pairs


def _mask(spans: tuple[tuple[int, int], ...], offsets: np.ndarray) -> np.ndarray:
    """bool [length]: the token ends beyond the beginning of a span and begins before its end.

    Offsets [length, 2] may be trimmed: whitespace at t is then (t + 1, t + 1), which may be a span's end.
    """
    begins, ends = offsets.T
    mask = np.zeros(len(offsets), dtype=bool)
    for begin, end in spans:
        mask |= (ends > begin) & ((begins < end) | (ends <= end))
    return mask


def _close(rows: Rows, row: int, ids: list[int], mask: np.ndarray, special: list[int],
           tokenizer: PreTrainedTokenizerBase, eos: bool) -> tuple[list[int], np.ndarray]:
    """End with one EOS that counts; refuse a BOS that is there twice."""
    bos_id, eos_id = tokenizer.bos_token_id, tokenizer.eos_token_id
    if special[0] and len(ids) > 1 and ids[0] == ids[1] == bos_id:
        raise WhenceError(f"{rows.where(row)}: begins with {tokenizer.bos_token!r} twice, as the tokenizer "
                          f"adds it and the text holds it; leave it out of the text and the template")
    while eos_id is not None and ids[-2:] == [eos_id, eos_id]:
        ids, mask = ids[:-1], mask[:-1]
    if eos and ids[-1] != eos_id:
        ids, mask = [*ids, eos_id], np.append(mask, True)
    mask[-1] |= ids[-1] == eos_id
    return ids, mask


def _check_room(rows: Rows, masks: list[np.ndarray], max_length: int | None) -> None:
    """Refuse a row of which no token counts, and rows of which none would be left within `max_length`."""
    needs = [int(mask.argmax()) + 1 for mask in masks]  # tokens up to the first that counts
    for row, mask in enumerate(masks):
        if not mask.any():
            raise WhenceError(f"{rows.where(row)}: the only token is the first one, which nothing predicts; "
                              f"use eos=True or a tokenizer with BOS, or leave the row out")
    short = [row for row, need in enumerate(needs) if max_length is not None and need > max_length]
    if short:
        row = short[0]
        raise WhenceError(f"{rows.where(row)}: has {len(masks[row])} tokens, and the response begins with "
                          f"token {needs[row]}, so nothing of it is left at max_length {max_length} (rows "
                          f"like this: {len(short)} of {len(rows)}); use a max_length of at least "
                          f"{max(needs)}, or leave such rows out")
