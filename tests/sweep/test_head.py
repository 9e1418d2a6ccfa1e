"""Logits in chunks give the values and gradients of whole ones, and models that change logits are seen."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from tests import tiny
from whence.models.blocks import select_blocks
from whence.sweep import head as head_file
from whence.sweep.gram import GradientStore
from whence.sweep.head import Head
from whence.sweep.sweep import sweep


def gradients(model: nn.Module) -> tuple[np.ndarray, list[torch.Tensor]]:
    data, blocks = tiny.examples(7), select_blocks(model)
    store = GradientStore(blocks, 7, dtype=torch.float64)
    return sweep(model, data, blocks, [store]).values, store.take()


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_chunks_of_a_few_positions_change_nothing(architecture: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = getattr(tiny, architecture)()
    whole = gradients(model)
    monkeypatch.setattr(head_file, "CHUNK_BYTES", {"cpu": 3 * 4 * tiny.VOCAB, "cuda": 1})
    values, found = gradients(model)
    np.testing.assert_allclose(values, whole[0], rtol=1e-12)
    for G, H in zip(found, whole[1], strict=True):
        torch.testing.assert_close(G, H, rtol=1e-10, atol=1e-14)


class Capped(nn.Module):
    """A model that caps its logits after the head, as some do."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner, self.config = inner, inner.config

    def get_output_embeddings(self) -> nn.Module:
        return self.inner.lm_head

    def forward(self, **inputs: object) -> object:
        output = self.inner(**inputs)
        output.logits = 2 * torch.tanh(output.logits / 2)
        return output


def test_logits_changed_after_the_head_are_taken_from_the_model() -> None:
    model, data = Capped(tiny.llama()), tiny.examples(4)
    head = Head(model, attributed=False)
    assert head.module is not None
    values = sweep(model, data).values
    with torch.no_grad():
        expected = [float(tiny.log_prob(model, data, i)) for i in range(4)]
    np.testing.assert_allclose(values, expected, rtol=1e-10)
