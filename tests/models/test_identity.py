"""Content hashes of models: what changes them and what does not."""

from __future__ import annotations

import pytest
import torch

from tests.models.conftest import Build, adapt
from whence.base.errors import WhenceError
from whence.models.identity import adapter_hash, model_hash, refuse_nonfinite


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_one_weight_changes_the_hash(architecture: str, build: Build) -> None:
    model = build(architecture)
    before = model_hash(model)
    assert before == model_hash(build(architecture)) != model_hash(build(architecture, seed=1))
    with torch.no_grad():
        list(model.parameters())[-1].view(-1)[0] += 1e-6
    assert model_hash(model) != before
    assert model_hash(build(architecture).to(torch.bfloat16)) != before


def test_an_adapter_leaves_the_base_hash(build: Build) -> None:
    before = model_hash(build())
    wrapped = adapt(build(), modules_to_save=["lm_head"])
    assert model_hash(wrapped) == before
    with torch.no_grad():
        wrapped.get_parameter("base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight")[0, 0] += 1
    assert model_hash(wrapped) != before


def test_the_adapter_hash_is_weights_and_scaling(build: Build) -> None:
    first = adapter_hash(adapt(build()))
    assert first == adapter_hash(adapt(build(seed=5)))  # of the adapter alone
    assert first != adapter_hash(adapt(build(), seed=2))
    assert first != adapter_hash(adapt(build(), lora_alpha=7))


def test_nonfinite_weights_are_counted_and_named() -> None:
    named = [("a", torch.ones(3)), ("ids", torch.ones(2, dtype=torch.long))]
    refuse_nonfinite(named, "here")
    bad = [(f"w{i}", torch.tensor([1.0, float("nan"), float("-inf")])) for i in range(5)]
    with pytest.raises(WhenceError, match=r"here: .* in 5 of 7 weights: w0 \(2 of 3 values\), .* and 2 more"):
        refuse_nonfinite(named + bad, "here")
