"""The members of a bank differ by the rows they keep and by nothing else."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from transformers import PreTrainedModel

from whence.models.build import build_model, cosine, train_tokenizer

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
ROWS, LENGTH, BATCH, LR = 40, 12, 4, 3e-3


@pytest.fixture
def bank(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(sys, "path", [str(BENCHMARKS / "lds"), str(BENCHMARKS), *sys.path])
    import bank

    return bank


def fresh() -> PreTrainedModel:
    tokenizer = train_tokenizer(["the cat sat on the mat "], 300)
    return build_model("gpt2", tokenizer, width=32, layers=1, heads=2, context=LENGTH)


def literally(model: PreTrainedModel, tokens: np.ndarray, order: np.ndarray, weights: np.ndarray) -> None:
    """Every row of every batch is run, and its loss is multiplied by its weight."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, betas=(0.9, 0.95), weight_decay=0.01)
    steps = len(order) // BATCH
    for step in range(steps):
        rows = order[step * BATCH : (step + 1) * BATCH]
        logits = model(input_ids=torch.from_numpy(tokens[rows])).logits
        loss = sum(w * F.cross_entropy(l[:-1], torch.from_numpy(t[1:]), reduction="sum")
                   for l, t, w in zip(logits, tokens[rows], weights[rows], strict=True))
        optimizer.zero_grad()
        (loss / (BATCH * (LENGTH - 1))).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = LR * cosine(step, steps)
        optimizer.step()


def flat(model: PreTrainedModel) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("left_out", ["none", "half", "a whole batch"])
def test_rows_left_out_weigh_nothing_and_change_nothing_else(bank: ModuleType, left_out: str) -> None:
    order = np.concatenate([np.random.default_rng(epoch).permutation(ROWS) for epoch in range(2)])
    kept = np.ones(ROWS, bool)
    kept[{"none": [], "half": np.arange(0, ROWS, 2), "a whole batch": order[8:12]}[left_out]] = False
    tokens = np.random.default_rng(0).integers(0, 250, (ROWS, LENGTH))
    fast, slow = fresh(), fresh()
    bank.fine_tune(fast, tokens, order, batch=BATCH, lr=LR, kept=kept)
    literally(slow, tokens, order, kept.astype(np.float32))
    assert (flat(fast) - flat(slow)).abs().max() < 2e-5
    assert (flat(fast) - flat(fresh())).abs().max() > 1e-2


def test_members_keep_their_own_half_and_orders_are_permutations(bank: ModuleType) -> None:
    halves = np.stack([bank.kept_rows(f"{member:03d}") for member in range(8)])
    assert (halves.sum(1) == bank.LDS_ROWS // 2).all()
    assert len(np.unique(halves, axis=0)) == 8
    assert bank.kept_rows("full").all() and not bank.kept_rows("base").any()
    epochs = np.stack([bank.batch_order(order).reshape(-1, bank.LDS_ROWS) for order in "ab"]).reshape(-1, bank.LDS_ROWS)
    assert (np.sort(epochs, axis=1) == np.arange(bank.LDS_ROWS)).all() and len(np.unique(epochs, axis=0)) == len(epochs)


def test_log_probabilities_are_sums_over_all_tokens_but_the_first(bank: ModuleType) -> None:
    model, tokens = fresh(), np.random.default_rng(0).integers(0, 250, (3, LENGTH))
    found = bank.log_probs(model, tokens, batch=2)
    logits = model(input_ids=torch.from_numpy(tokens)).logits.detach().double().log_softmax(-1)
    assert found == pytest.approx([sum(float(logits[r, t, tokens[r, t + 1]]) for t in range(LENGTH - 1))
                                   for r in range(3)], rel=1e-6)
