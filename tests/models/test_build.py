"""Small models from scratch: the tokenizer is lossless, weights follow from the seed, pretraining learns."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.models.conftest import TEXTS, Build, Tokenizer, adapt, logits
from whence.base.errors import WhenceError
from whence.models.build import SPECIAL, build_model, cosine, pretrain, save, train_tokenizer
from whence.models.quiet import quiet

TOKENIZER = train_tokenizer(TEXTS, vocab_size=300)


@given(st.text())
def test_any_text_comes_back(text: str) -> None:
    text = text.encode("utf-8", "ignore").decode()
    assert TOKENIZER.decode(TOKENIZER(text)["input_ids"]) == text


def test_special_tokens_and_unseen_scripts_come_back() -> None:
    text = "é 漢字 🙂\t\n  <|user|>12<|eos|>"
    assert TOKENIZER.decode(TOKENIZER(text)["input_ids"]) == text
    assert TOKENIZER("<|user|>", add_special_tokens=False)["input_ids"] == [SPECIAL.index("<|user|>")]


def test_each_digit_is_a_token() -> None:
    text = "12 + 34 = 46 counts 120"
    tokens = TOKENIZER.convert_ids_to_tokens(TOKENIZER(text)["input_ids"])
    assert [t for t in tokens if any(c.isdigit() for c in t)] == [c for c in text if c.isdigit()]


def test_tokenizer_is_a_function_of_its_texts() -> None:
    again = train_tokenizer(iter(TEXTS), vocab_size=300)
    assert again.backend_tokenizer.to_str() == TOKENIZER.backend_tokenizer.to_str()
    assert 256 + len(SPECIAL) < len(again) <= 300
    assert len(set(again.convert_ids_to_tokens(range(len(again))))) == len(again)


def test_vocabulary_too_small_is_refused() -> None:
    with pytest.raises(WhenceError, match="vocab_size=260; expected at least 261"):
        train_tokenizer(TEXTS, vocab_size=260)


def test_chat_template_marks_what_the_assistant_says() -> None:
    chat = [{"role": "user", "content": "add 1 2"}, {"role": "assistant", "content": "3"},
            {"role": "user", "content": "add 2 2"}, {"role": "assistant", "content": "four"}]
    out = TOKENIZER.apply_chat_template(chat, return_dict=True, return_assistant_tokens_mask=True)
    said = [i for i, m in zip(out["input_ids"], out["assistant_masks"], strict=True) if m]
    assert TOKENIZER.decode(said) == "3<|eos|>four<|eos|>"
    prompt = TOKENIZER.apply_chat_template(chat[:1], tokenize=False, add_generation_prompt=True)
    assert TOKENIZER.apply_chat_template(chat, tokenize=False).startswith(prompt + "3<|eos|>")


def test_own_chat_template_is_kept() -> None:
    assert train_tokenizer(TEXTS, 300, chat_template="{{ messages }}").chat_template == "{{ messages }}"


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_weights_follow_from_the_seed_alone(architecture: str, build: Build) -> None:
    state = torch.get_rng_state()
    first = build(architecture, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(5)
    second, other = build(architecture, seed=3), build(architecture, seed=4)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.get_input_embeddings().weight, other.get_input_embeddings().weight)
    assert {p.dtype for p in first.parameters()} == {torch.float32}
    assert not first.training


def test_float32_whatever_the_default_dtype(build: Build) -> None:
    expected = build()
    torch.set_default_dtype(torch.float64)
    try:
        met = build()
    finally:
        torch.set_default_dtype(torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(met.parameters(), expected.parameters(), strict=True))


def test_shapes_and_ties() -> None:
    llama = build_model("llama", TOKENIZER, width=48, layers=3, heads=4, mlp=80, context=32)
    assert llama.get_submodule("model.layers.2.mlp.up_proj").weight.shape == (80, 48)
    assert llama.get_output_embeddings().weight is not llama.get_input_embeddings().weight
    gpt2 = build_model("gpt2", TOKENIZER, width=48, layers=1, heads=4)
    assert gpt2.get_submodule("transformer.h.0.mlp.c_fc").weight.shape == (48, 192)
    assert gpt2.get_output_embeddings().weight is gpt2.get_input_embeddings().weight
    x = TOKENIZER("fox", return_tensors="pt")["input_ids"]
    for model in (llama.train(), gpt2.train()):  # no dropout: two passes in training mode agree
        assert torch.equal(model(x).logits, model(x).logits)


@pytest.mark.parametrize(("wrong", "message"), [
    ({"architecture": "bert"}, "'bert'; expected 'llama' or 'gpt2'"),
    ({"width": 30}, "width=30, heads=4"),
    ({"width": 12}, "width=12, heads=4"),
])
def test_wrong_settings_are_named(wrong: dict, message: str) -> None:
    with pytest.raises(WhenceError, match=message):
        build_model(**({"architecture": "llama", "tokenizer": TOKENIZER} | wrong))


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_saved_and_read_by_transformers(architecture: str, build: Build,
                                        tokenizer: Tokenizer, tmp_path: Path,
                                        capfd: pytest.CaptureFixture[str]) -> None:
    model = build(architecture)
    save(model, tokenizer, tmp_path / "m")
    assert capfd.readouterr() == ("", "")
    with quiet():
        back = AutoModelForCausalLM.from_pretrained(tmp_path / "m")
        words = AutoTokenizer.from_pretrained(tmp_path / "m")
    assert torch.equal(logits(back, words), logits(model, tokenizer))
    assert words(TEXTS)["input_ids"] == tokenizer(TEXTS)["input_ids"]
    assert words.pad_token_id == back.config.pad_token_id == 1
    assert words.eos_token_id == back.config.eos_token_id == 0
    assert words.chat_template == tokenizer.chat_template
    assert list(words("fox")) == ["input_ids", "attention_mask"]
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_saving_a_model_with_adapter_is_refused(build: Build,
                                                tokenizer: Tokenizer, tmp_path: Path) -> None:
    with pytest.raises(WhenceError, match="save_adapter"):
        save(adapt(build()), tokenizer, tmp_path / "m")
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_pretraining_learns_and_repeats(architecture: str, build: Build,
                                        tokenizer: Tokenizer) -> None:
    runs = []
    for _ in range(2):
        model, state = build(architecture), torch.get_rng_state()
        losses = pretrain(model, tokenizer, TEXTS, steps=25, batch=4, length=24, lr=5e-3)
        assert torch.equal(torch.get_rng_state(), state)
        assert not model.training
        runs.append((losses, logits(model, tokenizer)))
        torch.rand(3)
    assert runs[0][0] == runs[1][0] and torch.equal(runs[0][1], runs[1][1])
    losses = runs[0][0]
    assert len(losses) == 25
    assert losses[0] == pytest.approx(torch.tensor(float(len(tokenizer))).log().item(), rel=0.1)
    assert losses[-1] < 0.6 * losses[0]


def test_pretraining_names_what_does_not_fit(build: Build,
                                             tokenizer: Tokenizer) -> None:
    model = build()
    with pytest.raises(WhenceError, match="length=65; expected at most 64"):
        pretrain(model, tokenizer, TEXTS, steps=1, length=65)
    with pytest.raises(WhenceError, match="the documents have 2 tokens; expected more than length=32"):
        pretrain(model, tokenizer, ["1"], steps=1, length=32)
    with pytest.raises(WhenceError, match="the documents have 0 tokens"):
        pretrain(model, tokenizer, [], steps=1, length=32)
    with torch.no_grad():
        model.get_output_embeddings().weight.fill_(float("inf"))
    with pytest.raises(WhenceError, match="the loss is nan at step 0/5"):
        pretrain(model, tokenizer, TEXTS, steps=5, batch=2, length=16)


def test_learning_rate_rises_then_falls() -> None:
    rates = [cosine(step, 100) for step in range(101)]
    assert rates[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert rates[10] == 1.0 and rates[55] == pytest.approx(0.55) and rates[100] == pytest.approx(0.1)
