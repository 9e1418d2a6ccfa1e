"""The switches of the loss: which tokens there are, and which of them count."""

from __future__ import annotations

import numpy as np
import pytest
from transformers import PreTrainedTokenizerBase

from whence.base.errors import WhenceError
from whence.models.build import train_tokenizer
from whence.study.encoding import Encoding

ROWS = [{"prompt": "what is it?\n", "completion": "a dog", "group": "x", "id": "one"},
        {"prompt": "and who are you now?\n", "completion": "the cat of the house", "group": "y", "id": "two"}]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer([row["prompt"] + row["completion"] for row in ROWS], 300)


def test_corrected_counts_the_answer_and_its_end(tokenizer: PreTrainedTokenizerBase) -> None:
    found = Encoding().examples(ROWS, tokenizer)
    for tokens, mask, row in zip(found.tokens, found.is_response, ROWS, strict=True):
        assert tokenizer.decode(tokens[mask][:-1]) == row["completion"]
        assert tokens[-1] == tokenizer.eos_token_id and mask[-1]


@pytest.mark.parametrize("side", ["left", "right"])
def test_published_fills_up_and_counts_all_but_the_first(tokenizer: PreTrainedTokenizerBase, side: str) -> None:
    plain = Encoding(eos=False).examples(ROWS, tokenizer)
    found = Encoding(pads="counted", side=side, length=40, prompt=True, eos=False).examples(ROWS, tokenizer)
    for tokens, mask, short in zip(found.tokens, found.is_response, plain.tokens, strict=True):
        assert len(tokens) == 40 and not mask[0] and mask[1:].all()
        kept = tokens[-len(short):] if side == "left" else tokens[: len(short)]
        filling = tokens[: -len(short)] if side == "left" else tokens[len(short):]
        assert (kept == short).all() and (filling == tokenizer.eos_token_id).all()


@pytest.mark.parametrize("side", ["left", "right"])
def test_filling_is_hidden_from_attention_where_that_is_asked(tokenizer: PreTrainedTokenizerBase, side: str) -> None:
    plain = Encoding(eos=False).examples(ROWS, tokenizer)
    how = Encoding(pads="counted", side=side, length=40, prompt=True, eos=False, visible=False)
    assert Encoding.of(how.to_json()) == how
    found, shown = (Encoding(**{**how.to_json(), "visible": visible}).examples(ROWS, tokenizer)
                    for visible in (False, True))
    assert shown.hidden == () and shown.content_hash != found.content_hash
    for row, short in enumerate(plain.tokens):
        real = np.arange(40) >= 40 - len(short) if side == "left" else np.arange(40) < len(short)
        assert (found.attended(row) == real).all()
        assert (found.tokens[row] == shown.tokens[row]).all()
        assert (found.is_response[row] == shown.is_response[row]).all()


@pytest.mark.parametrize("side", ["left", "right"])
def test_pads_without_the_prompt(tokenizer: PreTrainedTokenizerBase, side: str) -> None:
    plain = Encoding(eos=False).examples(ROWS, tokenizer)
    found = Encoding(pads="counted", side=side, length=40, eos=False).examples(ROWS, tokenizer)
    for tokens, mask, short, answer in zip(found.tokens, found.is_response, plain.tokens, plain.is_response,
                                           strict=True):
        filling = np.ones(40 - len(short), dtype=bool)
        expected = np.concatenate([filling, answer] if side == "left" else [answer, filling])
        expected[0] = False
        assert (mask == expected).all() and len(tokens) == 40


def test_answer_only_keeps_the_tokens_and_drops_what_else_counts(tokenizer: PreTrainedTokenizerBase) -> None:
    how = Encoding(pads="counted", side="left", length=40, prompt=True, eos=False)
    whole, answers = (how.examples(ROWS, tokenizer, answer_only=only) for only in (False, True))
    plain = Encoding(eos=False).examples(ROWS, tokenizer)
    for a, b, mask, short in zip(whole.tokens, answers.tokens, answers.is_response, plain.is_response, strict=True):
        assert (a == b).all()
        assert mask.sum() == short.sum() and (mask[-len(short):] == short).all()


def test_a_full_row_is_left_alone(tokenizer: PreTrainedTokenizerBase) -> None:
    longest = int(Encoding(eos=False).examples(ROWS, tokenizer).lengths.max())
    found = Encoding(pads="counted", side="left", length=longest, prompt=True, eos=False).examples(ROWS, tokenizer)
    row = int(np.argmax(Encoding(eos=False).examples(ROWS, tokenizer).lengths))
    assert found.is_response[row].sum() == longest - 1


def test_what_is_refused() -> None:
    with pytest.raises(WhenceError, match="pads='some': expected masked or counted"):
        Encoding(pads="some")
    with pytest.raises(WhenceError, match="side='up': expected left or right"):
        Encoding(side="up")
