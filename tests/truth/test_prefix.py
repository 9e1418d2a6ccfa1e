"""Layers below the first adapter: run once, skipped afterwards, and what members end in is the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from tests import tiny
from whence.train.adapter import prepare
from whence.train.recipe import Recipe
from whence.truth.member import Trainer
from whence.truth.prefix import Prefix, decoder_layers, first_trained, fits
from whence.truth.subsets import all_rows, random_subsets

TRAIN, QUERIES = tiny.examples(14), tiny.examples(4, seed=1, prefix="q")


def model_of(architecture: str, **options: Any) -> Any:
    """Four layers, width 16, float32."""
    torch.manual_seed(0)
    if architecture == "gpt2":
        off = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0, **options}
        config: Any = GPT2Config(vocab_size=tiny.VOCAB, n_embd=16, n_layer=4, n_head=2, n_positions=64,
                                 bos_token_id=None, eos_token_id=None, **off)
        return GPT2LMHeadModel(config).eval()
    config = LlamaConfig(vocab_size=tiny.VOCAB, hidden_size=16, intermediate_size=24, num_hidden_layers=4,
                         num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=64, **options)
    return LlamaForCausalLM(config).eval()


def recipe(architecture: str, layers: str) -> Recipe:
    name = {"gpt2": "transformer.h", "llama": "model.layers"}[architecture]
    return Recipe(rank=2, alpha=4, targets=(f"{name}.{layers}*",), epochs=2, batch_size=4, learning_rate=1e-2)


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_a_member_ends_where_it_would_without_sharing(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    how = recipe(architecture, "[23].")
    subsets = [*all_rows(14), *random_subsets(14, 2)]
    found, calls = {}, {}
    for shared in (True, False):
        model = model_of(architecture)
        ran = {"below": 0, "above": 0}
        for place, layer in enumerate(decoder_layers(model)):
            forward, part = layer.forward, "below" if place < 2 else "above"

            def counted(*args: Any, forward: Any = forward, part: str = part, ran: dict[str, int] = ran,
                        **options: Any) -> Any:
                ran[part] += 1
                return forward(*args, **options)

            monkeypatch.setattr(layer, "forward", counted)
        if not shared:
            monkeypatch.setattr("whence.truth.member.first_trained", lambda model: 0)
        trainer = Trainer(model, TRAIN, QUERIES, how)
        found[shared] = [trainer.run(subset) for subset in subsets]
        calls[shared] = ran
    for (one, weights), (other, expected) in zip(found[True], found[False], strict=True):
        np.testing.assert_allclose(one.losses, other.losses, rtol=1e-5)
        np.testing.assert_allclose(one.values, other.values, rtol=1e-4)
        for name, value in expected.items():
            torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-5)
    steps = sum(len(one.losses) for one, _ in found[True])
    assert calls[False]["below"] - calls[True]["below"] >= 2 * steps - 2  # one pass for all rows, two layers


def test_what_can_be_shared() -> None:
    def first(model: Any, how: Recipe) -> int:
        return first_trained(prepare(model, how))

    assert first(model_of("llama"), recipe("llama", "2.")) == 2
    assert first(model_of("gpt2"), recipe("gpt2", "3.")) == 3
    assert first(model_of("llama"), recipe("llama", "")) == 0
    assert first(model_of("gpt2", resid_pdrop=0.1), recipe("gpt2", "3.")) == 0
    assert first(model_of("llama", attention_dropout=0.1), recipe("llama", "3.")) == 0
    assert first_trained(model_of("llama")) == 0  # every weight is trained
    assert first_trained(nn.Linear(2, 2)) == 0
    assert fits(TRAIN, model_of("llama")) and not fits(TRAIN, model_of("llama"), limit=100)


def test_the_model_is_left_whole() -> None:
    model = prepare(model_of("llama"), recipe("llama", "2."))
    prefix = Prefix(model, 2, TRAIN)
    with prefix.used() as give:
        give(np.array([0, 3]))
    assert not any("forward" in vars(layer) for layer in decoder_layers(model))
    assert not any(layer._forward_pre_hooks for layer in decoder_layers(model))
