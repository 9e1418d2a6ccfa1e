"""One step against a literal computation; what is trained and what is not; what is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from peft import PeftModel

from tests.tiny import VOCAB, examples, gpt2, llama, log_prob
from whence.base.errors import WhenceError
from whence.train.adapter import prepare, target_names, trainable
from whence.train.plan import Step, plan_steps
from whence.train.recipe import Recipe
from whence.train.training import Training


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: w.detach().clone() for name, w in model.named_parameters()}


@pytest.mark.parametrize("reduction", ["token", "example"])
@pytest.mark.parametrize("clip_norm", [None, 0.5])
def test_a_step_is_adamw_on_the_reduction_as_stated(reduction: str, clip_norm: float | None) -> None:
    """Against one example at a time, unpadded, through autograd, and AdamW's first update as a formula."""
    data, rows, rate, eps, decay = examples(6), [4, 0, 5], 0.05, 1e-3, 0.1
    how = Recipe(tune="full", reduction=reduction, clip_norm=clip_norm, eps=eps, weight_decay=decay)
    model = prepare(llama(), how)
    before = weights(model)
    line = Training(model, data, how).advance(Step(1, 0, np.array(rows), rate))

    oracle = llama()
    tokens = sum(int(data.is_response[r].sum()) for r in rows)
    loss = -sum(log_prob(oracle, data, r) for r in rows) / (tokens if reduction == "token" else len(rows))
    loss.backward()
    norm = torch.sqrt(sum((w.grad**2).sum() for w in oracle.parameters()))
    assert line == {"step": 1, "epoch": 0, "rows": rows, "lr": rate, "tokens": tokens,
                    "loss": pytest.approx(loss.item(), rel=1e-10),
                    "grad_norm": pytest.approx(norm.item(), rel=1e-8)}
    assert norm > 0.5  # so that clipping is at work
    scale = 1.0 if clip_norm is None else clip_norm / norm
    for name, weight in oracle.named_parameters():
        g = weight.grad * scale
        # AdamW's first step: m / (1 - beta1) = g, sqrt(v / (1 - beta2)) = |g|; decay acts on the weight.
        shrunk = before[name] * (1 - rate * decay) if weight.ndim >= 2 else before[name]
        expected = shrunk - rate * g / (g.abs() + eps)
        met = model.get_parameter(name).detach()
        torch.testing.assert_close(met, expected, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("make", [llama, gpt2])
def test_lora_trains_the_adapter_and_nothing_else(make) -> None:
    how = Recipe(rank=2, learning_rate=0.01, epochs=2, batch_size=4)
    model = prepare(make(dtype=torch.float32), how)
    before = weights(model)
    training = Training(model, examples(8), how)
    for step in plan_steps(8, how):
        training.advance(step)
    changed = {name for name, w in model.named_parameters() if not torch.equal(w, before[name])}
    assert changed == {name for name in before if ".lora_A." in name or ".lora_B." in name}
    assert all(not before[name].any() for name in changed if ".lora_B." in name)


def test_targets_are_patterns_of_whole_names_or_last_parts() -> None:
    model = llama()
    everything = target_names(model, ("all-linear",))
    assert len(everything) == 2 * 7 and "lm_head" not in everything
    assert target_names(model, ("q_proj", "*.1.mlp.down_proj")) == [
        "model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj", "model.layers.1.mlp.down_proj"]
    with pytest.raises(WhenceError, match=r"'c_attn' matches no linear layer.*down_proj.*v_proj"):
        target_names(model, ("q_proj", "c_attn"))


def test_the_chosen_targets_get_the_adapters() -> None:
    model = prepare(llama(dtype=torch.float32), Recipe(targets=("*.0.self_attn.v_proj",)))
    assert isinstance(model, PeftModel)
    adapted = {name.split(".lora_")[0] for name in trainable(model)}
    assert adapted == {"base_model.model.model.layers.0.self_attn.v_proj"}


def test_the_adapters_start_follows_the_seed_and_leaves_torchs_random_state_alone() -> None:
    state = torch.get_rng_state()
    first, again, other = (trainable(prepare(llama(dtype=torch.float32), Recipe(seed=s))) for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_dropout_follows_the_step_and_leaves_torchs_random_state_alone() -> None:
    """The same step from the same weights has the same loss whatever was drawn before; another has not."""
    how = Recipe(dropout=0.5, seed=3)
    losses = []
    for number, noise in ((1, 0), (1, 7), (2, 0)):
        model = prepare(llama(dtype=torch.float32), how)
        with torch.no_grad():
            for weight in trainable(model).values():
                weight.fill_(0.1)  # at the start B is zero, and dropout would not show
        torch.rand(noise)
        state = torch.get_rng_state()
        line = Training(model.train(), examples(4), how).advance(Step(number, 0, np.arange(4), 0.1))
        losses.append(line["loss"])
        assert torch.equal(torch.get_rng_state(), state)
    assert losses[0] == losses[1] != losses[2]


def test_bf16_runs_the_forward_pass_in_bf16_and_keeps_weights_in_float32() -> None:
    lines = {}
    for dtype in ("fp32", "bf16"):
        how = Recipe(dtype=dtype, tune="full")
        model = prepare(llama(dtype=torch.float32), how)
        lines[dtype] = Training(model, examples(4), how).advance(Step(1, 0, np.arange(4), 0.1))
        assert {w.dtype for w in model.parameters()} == {torch.float32}
    assert lines["bf16"]["loss"] != lines["fp32"]["loss"]
    assert lines["bf16"]["loss"] == pytest.approx(lines["fp32"]["loss"], rel=0.02)


def test_a_loss_that_is_not_finite_names_step_rate_and_rows_and_changes_nothing() -> None:
    how = Recipe(tune="full")
    model = prepare(llama(dtype=torch.float32), how)
    with torch.no_grad():
        model.model.embed_tokens.weight[:] = float("inf")
    before = weights(model)
    with pytest.raises(WhenceError, match=r"step 7: the loss is nan.*learning rate 0\.25.*'row2', 'row0'"):
        Training(model, examples(4), how).advance(Step(7, 1, np.array([2, 0]), 0.25))
    assert all(torch.equal(w, before[name]) for name, w in model.named_parameters())


def test_examples_the_model_cannot_take_are_refused() -> None:
    how = Recipe(tune="full")
    model, data = prepare(llama(dtype=torch.float32), how), examples(3)

    def refused(message: str, **changes: tuple[np.ndarray, ...]) -> None:
        with pytest.raises(WhenceError, match=message):
            Training(model, dataclasses.replace(data, **changes), how)

    outside, empty = data.tokens[1].copy(), np.zeros_like(data.is_response[1])
    outside[0] = VOCAB
    refused(f"row 1 .id 'row1'.: token {VOCAB} is outside the model's vocabulary of {VOCAB}",
            tokens=(data.tokens[0], outside, data.tokens[2]))
    refused("row 1 .id 'row1'.: no token of it counts",
            is_response=(data.is_response[0], empty, data.is_response[2]))
    refused("row 2 .id 'row2'.: 70 tokens, but the model has 64 positions",
            tokens=(*data.tokens[:2], np.ones(70, dtype=np.int64)),
            is_response=(*data.is_response[:2], np.arange(70) > 0))
    with pytest.raises(WhenceError, match="no examples"):
        Training(model, data.select([]), how)


def test_an_adapted_model_and_narrow_weights_are_refused() -> None:
    with pytest.raises(WhenceError, match="already carries an adapter"):
        prepare(prepare(llama(dtype=torch.float32), Recipe()), Recipe())
    with pytest.raises(WhenceError, match=r"is torch.bfloat16; expected float32"):
        prepare(llama(dtype=torch.bfloat16), Recipe(tune="full"))
