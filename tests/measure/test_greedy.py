"""Greedy answers: in batches what `generate` gives one by one, whatever the model's generation settings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models
from torch import nn
from transformers import PreTrainedTokenizerFast

from tests import tiny
from whence.data.examples import Examples
from whence.measure.greedy import greedy_answers
from whence.sweep.sweep import sweep

EOS = 7
LIMIT = 64  # positions of the tiny models


def tokenizer(**special: str) -> PreTrainedTokenizerFast:
    """Each token is a word of its own; token 7 is EOS unless told otherwise."""
    words = Tokenizer(models.WordLevel({f"w{i}": i for i in range(tiny.VOCAB)}, unk_token="w0"))
    words.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=words, **{"eos_token": f"w{EOS}", **special})


def one_by_one(model: nn.Module, data: Examples, words: PreTrainedTokenizerFast) -> list[str]:
    answers = []
    for tokens, mask in zip(data.tokens, data.is_response, strict=True):
        start = int(np.argmax(mask))
        prompt = torch.from_numpy(tokens[:start])[None]
        out = model.generate(prompt, attention_mask=torch.ones_like(prompt), do_sample=False, eos_token_id=EOS,
                             max_new_tokens=min(len(tokens) + 4, LIMIT) - start, pad_token_id=0)[0, start:].tolist()
        out = out[: out.index(EOS)] if EOS in out else out
        answers.append(words.decode(out))
    return answers


@pytest.fixture(params=["llama", "gpt2", "lora"])
def model(request: pytest.FixtureRequest) -> nn.Module:
    """Its EOS comes up now and then, so that rows of a batch end at different places."""
    made = getattr(tiny, request.param)()
    if request.param != "lora":
        head = made.get_output_embeddings()
        head.weight = nn.Parameter(head.weight.detach().clone())  # GPT-2's is tied
        with torch.no_grad():
            head.weight[EOS] *= 3
    return made


@pytest.mark.parametrize("batch_size", [1, 4, 32])
def test_batches_equal_generate_one_by_one(model: nn.Module, batch_size: int) -> None:
    data = tiny.examples(17, seed=3, shortest=2, longest=20)
    words = tokenizer(pad_token="w7")
    expected = one_by_one(model, data, words)
    assert len(set(map(len, expected))) > 3
    assert greedy_answers(model, words, data, batch_size) == expected


def test_a_prompt_behind_filling_that_attention_does_not_see_is_answered_as_without() -> None:
    data, words = tiny.examples(8, seed=5, shortest=4, longest=15), tokenizer(pad_token="w7")
    filling = np.zeros(5, dtype=np.int64)
    longer = replace(data, tokens=tuple(np.concatenate([filling, row]) for row in data.tokens),
                     is_response=tuple(np.concatenate([filling > 0, mask]) for mask in data.is_response),
                     hidden=tuple(np.arange(5 + len(row)) < 5 for row in data.tokens))
    seen = replace(longer, hidden=())
    model = tiny.llama()
    expected = greedy_answers(model, words, data)
    assert greedy_answers(model, words, longer) == expected
    assert greedy_answers(model, words, seen) != expected


def test_rows_near_the_last_position_are_as_they_are_alone() -> None:
    """In one batch with rows that have much room, and a model (GPT-2) that has no positions beyond its last."""
    model, words = tiny.gpt2(), tokenizer(pad_token="w7")
    rng = np.random.default_rng(0)
    lengths, starts = [64, 64, 64, 50, 30, 6], [62, 40, 63, 48, 2, 1]
    data = replace(tiny.examples(6), tokens=tuple(rng.integers(0, tiny.VOCAB, size=n) for n in lengths),
                   is_response=tuple(np.arange(n) >= start for n, start in zip(lengths, starts, strict=True)))
    assert greedy_answers(model, words, data) == one_by_one(model, data, words)


def test_the_models_generation_settings_do_not_enter() -> None:
    model, words = tiny.llama(), tokenizer(pad_token="w7")
    data = tiny.examples(8, seed=2, shortest=4)
    expected = greedy_answers(model, words, data)
    settings = model.generation_config
    settings.do_sample, settings.temperature, settings.repetition_penalty, settings.min_new_tokens = True, 5.0, 9.0, 30
    assert greedy_answers(model, words, data) == expected
    assert settings.do_sample and settings.repetition_penalty == 9.0


def test_an_answer_is_the_response_exactly_where_the_sweep_says_it_matches() -> None:
    model, words = tiny.llama(), tokenizer(pad_token="w7")
    data = tiny.examples(20, seed=4, shortest=4)
    made = greedy_answers(model, words, data)
    tokens = []
    for row, (answer, mask) in enumerate(zip(made, data.is_response, strict=True)):
        said = [int(word[1:]) for word in f" {answer}".replace("w", " w").split()]
        prompt = data.tokens[row][: int(np.argmax(mask))]
        tokens.append(np.array([*prompt, *(said if row % 2 else [*said[:-1], (said[-1] + 1) % tiny.VOCAB])]))
    rows = replace(data, tokens=tuple(tokens),
                   is_response=tuple(np.arange(len(t)) >= int(np.argmax(m))
                                     for t, m in zip(tokens, data.is_response, strict=True)))
    assert sweep(model, rows).matches.tolist() == [bool(row % 2) for row in range(20)]


def test_after_eos_nothing_is_read_even_without_a_padding_token() -> None:
    model = tiny.llama()
    data = tiny.examples(12, seed=3, shortest=6, longest=20)
    words = tokenizer(pad_token="w7")
    with torch.no_grad():
        model.get_output_embeddings().weight[EOS] *= 3
    expected = greedy_answers(model, words, data)
    assert min(map(len, expected)) < max(map(len, expected))
    assert greedy_answers(model, tokenizer(), data) == expected
    endless = tokenizer()
    endless.eos_token = None
    assert all(len(a) >= len(b) for a, b in zip(greedy_answers(model, endless, data), expected, strict=True))


def test_rows_without_a_prompt_or_room_are_empty_and_none_is_no_error() -> None:
    data = tiny.examples(3, seed=1, shortest=5)
    bare = replace(data, is_response=(np.ones(len(data.tokens[0]), dtype=bool), *data.is_response[1:]))
    model, words = tiny.llama(), tokenizer(pad_token="w7")
    assert greedy_answers(model, words, bare) == ["", *greedy_answers(model, words, data)[1:]]
    full = replace(data, tokens=(np.arange(LIMIT + 3) % tiny.VOCAB, *data.tokens[1:]),
                   is_response=(np.arange(LIMIT + 3) >= LIMIT + 1, *data.is_response[1:]))
    assert greedy_answers(model, words, full)[0] == ""
    assert greedy_answers(model, words, data.select([])) == []


def test_dropout_is_off_and_every_module_keeps_its_mode() -> None:
    model, words = tiny.lora(dropout=0.9), tokenizer(pad_token="w7")
    data = tiny.examples(6, seed=2)
    expected = greedy_answers(model, words, data)
    model.train()
    model.get_submodule("base_model.model.model.layers.0").eval()
    modes = [module.training for module in model.modules()]
    assert greedy_answers(model, words, data) == expected
    assert [module.training for module in model.modules()] == modes
