"""The damping that a fine-tune's length amounts to."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from whence.train.stiffness import stiffness


def test_a_gradient_that_stays_is_followed_as_far_by_adam_as_by_a_proximal_step() -> None:
    """AdamW on a linear loss: its way along a small added gradient is that gradient / lambda."""
    rng = np.random.default_rng(0)
    noise = torch.from_numpy(rng.choice([-1.0, 1.0], size=(200, 50)))  # of one size, so that sqrt(v) is known
    added, ends, log = torch.full((50,), 0.01, dtype=torch.float64), [], []
    for more in (0.0, 1.0):
        theta = torch.zeros(50, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.AdamW([theta], lr=1e-3, weight_decay=0.0, betas=(0.0, 0.999), eps=1e-12)
        log = []
        for step in range(200):
            theta.grad = noise[step] + more * added
            log.append({"lr": 1e-3, "grad_norm": theta.grad.norm().item()})
            optimizer.step()
        ends.append(theta.detach().clone())
    moved = (ends[0] - ends[1]).mean().item()
    assert moved == pytest.approx(0.01 / stiffness(log, 50, 1.0), rel=0.05)


def test_tokens_scale_it_and_what_learned_nothing_has_none() -> None:
    log = [{"lr": 0.1, "grad_norm": 3.0}, {"lr": 0.3, "grad_norm": 4.0}]
    assert stiffness(log, 2, 1.0) == pytest.approx((12.5 / 2) ** 0.5 / 0.4)
    assert stiffness(log, 2, 7.0) == pytest.approx(7 * stiffness(log, 2, 1.0))
    assert np.isnan(stiffness([{"lr": 0.0, "grad_norm": 1.0}], 2, 1.0))
