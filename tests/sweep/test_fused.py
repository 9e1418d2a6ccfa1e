"""One operation for a chain: the same function and gradient, and the model as it was afterwards."""

from __future__ import annotations

import pytest
import torch

from tests import tiny
from whence.sweep.fused import FUSED, fused


@pytest.mark.parametrize("chain", FUSED)
def test_a_fused_activation_is_the_same_function(chain: type) -> None:
    x = torch.linspace(-8, 8, 1001, dtype=torch.float64, requires_grad=True)
    slow, fast = chain()(x), FUSED[chain](x)
    torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-11)
    (by_slow,), (by_fast,) = (torch.autograd.grad(y.sum(), x) for y in (slow, fast))
    torch.testing.assert_close(by_fast, by_slow, rtol=1e-8, atol=1e-11)


def test_modules_are_put_back_also_after_an_error() -> None:
    model = tiny.gpt2()
    before = dict(model.named_modules())
    with pytest.raises(RuntimeError), fused(model):
        assert type(model.transformer.h[0].mlp.act) is torch.nn.GELU
        raise RuntimeError
    assert dict(model.named_modules()) == before
