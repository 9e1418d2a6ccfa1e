"""Products of resident vectors with training gradients: the same however many batches are multiplied at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests import tiny
from whence.models.blocks import select_blocks
from whence.sweep import products as products_file
from whence.sweep.gram import GradientStore
from whence.sweep.products import ProductSink
from whence.sweep.sweep import Layout, sweep
from whence.sweep.vectors import Full, LowRank, Vectors

ROWS, QUERIES = 17, 5


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "lora"])
@pytest.mark.parametrize("rank", [0, 2])
def test_products_are_those_of_whole_gradients(architecture: str, rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """One batch at a time, some, all; whole tiles and pieces of them; waiting cut short by memory."""
    model, data = getattr(tiny, architecture)(), tiny.examples(ROWS)
    blocks = select_blocks(model)
    draw = torch.Generator().manual_seed(0)
    flat = [torch.randn(QUERIES, block.parameters, generator=draw).double() for block in blocks]
    vectors: list[Vectors] = [LowRank.of(x, b.outputs, b.inputs, b.bias, rank) if rank else Full(x, b.outputs, b.inputs)
                              for x, b in zip(flat, blocks, strict=True)]
    store = GradientStore(blocks, ROWS, dtype=torch.float64)
    sweep(model, data, blocks, [store])
    expected = torch.stack([x.whole() @ G.T for x, G in zip(vectors, store.take(), strict=True)])

    def found(at_once: int, layout: Layout) -> torch.Tensor:
        sink = ProductSink(blocks, vectors, ROWS, at_once)
        sweep(model, data, blocks, [sink], layout=layout)
        assert sink.settled
        return sink.products

    few = Layout(batch_size=2)
    for at_once, layout in ((1, few), (4, few), (5, few), (1000, few), (1000, Layout())):
        torch.testing.assert_close(found(at_once, layout), expected, rtol=1e-9, atol=1e-12)
    monkeypatch.setattr(products_file, "PIECE", 40)
    monkeypatch.setattr("whence.sweep.workspace.CHUNK_BYTES", {"cpu": 2000, "cuda": 1})
    torch.testing.assert_close(found(4, few), expected, rtol=1e-9, atol=1e-12)
    monkeypatch.setattr(products_file, "HOLD_BYTES", {"cpu": 1, "cuda": 1})
    torch.testing.assert_close(found(1000, few), found(1, few), rtol=0, atol=0)  # nothing may wait


def test_a_batch_waits_for_the_next() -> None:
    model, data = tiny.gpt2(), tiny.examples(8)
    blocks = select_blocks(model)
    sink = ProductSink(blocks, [Full(torch.ones(1, b.parameters).double(), b.outputs, b.inputs) for b in blocks], 8, 4)
    settled: list[bool] = []

    class Looks:
        def update(self, share: object) -> None: ...

        def update_hidden(self, *_: object) -> None:
            settled.append(sink.settled)

        def finish(self, order: np.ndarray) -> None: ...

    sweep(model, data, blocks, [sink], [Looks()], layout=Layout(batch_size=2))
    assert settled == [True, False, True, False]  # before each batch
