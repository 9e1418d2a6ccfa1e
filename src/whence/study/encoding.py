"""`Encoding`: how rows become tokens and which of them count, with the questionable choices as switches.

    corrected    prompt ............. response + EOS      counts: response and EOS; padding never exists
    published    pad pad prompt response                  counts: all but the first position, padding included

Padding that is counted is made part of the rows: every row is brought to `length` tokens with EOS tokens that count
like any other. So a fine-tune, a sweep and a retrain bank need no switch of their own, and see the same thing. Whether
attention looks at it is a switch too: the code of Li et al. 2024 hides padding from attention in its later version and
not in its earlier one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from whence.base.errors import WhenceError
from whence.data.encode import load_examples
from whence.data.examples import Examples
from whence.data.rows import did_you_mean


@dataclass(frozen=True)
class Encoding:
    """The switches that decide what is in the loss.

    Attributes:
        pads: `masked`, or `counted`: rows are filled up to `length` and the filling counts.
        side: where it goes.
        visible: whether attention looks at the filling.
        length: rows are cut off here, and filled up to here where pads are counted.
        prompt: whether the prompt's tokens count.
        eos: whether the response is closed by an EOS token, which counts.

    Raises:
        WhenceError: a value that is not among these.
    """

    pads: str = "masked"
    side: str = "right"
    visible: bool = True
    length: int = 128
    prompt: bool = False
    eos: bool = True

    def __post_init__(self) -> None:
        for name, allowed in (("pads", ("masked", "counted")), ("side", ("left", "right"))):
            if getattr(self, name) not in allowed:
                raise WhenceError(f"{name}={getattr(self, name)!r}: expected {' or '.join(allowed)}")

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Encoding:
        """From the entries of `options` that are switches of an encoding; the others are left alone."""
        return cls(**{field.name: options[field.name] for field in fields(cls) if field.name in options})

    def to_json(self) -> dict[str, Any]:
        """Plain values; `Encoding.of` gives back an equal one."""
        return asdict(self)

    def examples(self, rows: Sequence[Mapping[str, Any]], tokenizer: PreTrainedTokenizerBase,
                 answer_only: bool = False) -> Examples:
        """Prompt + completion rows as examples.

        Args:
            answer_only: the same tokens, but only the response counts: what behaviour and representations go by.

        Raises:
            WhenceError: whatever `whence.data.encode.encode` raises, a row without response within `length` included.
        """
        plain = load_examples(list(rows), tokenizer, max_length=self.length, eos=self.eos)
        if self.prompt and not answer_only:
            plain = counting_everything(plain)
        if self.pads == "counted":
            assert tokenizer.eos_token_id is not None
            plain = filled_up(plain, self.length, self.side, int(tokenizer.eos_token_id), not answer_only,
                              self.visible)
        return plain


def counting_everything(examples: Examples) -> Examples:
    """Every token counts but the first, which nothing predicts."""
    masks = tuple(np.arange(len(tokens)) > 0 for tokens in examples.tokens)
    return replace(examples, is_response=masks)


def filled_up(examples: Examples, length: int, side: str, pad: int, counts: bool, visible: bool = True) -> Examples:
    """Every row brought to `length` tokens with `pad`, on `side`; the filling counts or does not, is seen by attention
    or is not."""
    tokens, masks, hidden = [], [], []
    for row, mask in zip(examples.tokens, examples.is_response, strict=True):
        filling = np.full(length - len(row), pad, dtype=np.int64)
        if side == "left" and len(filling):  # the row's first token is predicted now, from padding
            mask = np.concatenate([[counts and bool(mask[1:].all())], mask[1:]])
        parts = [(filling, np.full(len(filling), counts), np.full(len(filling), not visible)),
                 (row, mask, np.zeros(len(row), dtype=bool))]
        whole, counted, unseen = (np.concatenate(each) for each in zip(*(parts if side == "left" else parts[::-1]),
                                                                      strict=True))
        counted[0] = False
        tokens.append(whole)
        masks.append(counted)
        hidden.append(unseen)
    return replace(examples, tokens=tuple(tokens), is_response=tuple(masks),
                   hidden=() if visible else tuple(hidden))


def known_fields(cls: type, options: Mapping[str, Any], where: str) -> None:
    """Refuse an option that is no field of the dataclass `cls`.

    Raises:
        WhenceError: names it, the place, and the nearest field.
    """
    names = [field.name for field in fields(cls)]
    for name in options:
        if name not in names:
            raise WhenceError(f"{where}: no option {name!r}{did_you_mean(name, names)}; expected some of "
                              f"{', '.join(names)}")
