"""Products of resident vectors with training gradients, in tiles and pieces of any size."""

from __future__ import annotations

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
    model, data = getattr(tiny, architecture)(), tiny.examples(ROWS)
    blocks = select_blocks(model)
    draw = torch.Generator().manual_seed(0)
    flat = [torch.randn(QUERIES, block.parameters, generator=draw).double() for block in blocks]
    vectors: list[Vectors] = [LowRank.of(x, b.outputs, b.inputs, b.bias, rank) if rank else Full(x, b.outputs, b.inputs)
                              for x, b in zip(flat, blocks, strict=True)]
    store = GradientStore(blocks, ROWS, dtype=torch.float64)
    sweep(model, data, blocks, [store])
    expected = torch.stack([x.whole() @ G.T for x, G in zip(vectors, store.take(), strict=True)])

    def found(layout: Layout) -> torch.Tensor:
        sink = ProductSink(blocks, vectors, ROWS)
        sweep(model, data, blocks, [sink], layout=layout)
        return sink.products

    torch.testing.assert_close(found(Layout()), expected, rtol=1e-9, atol=1e-12)
    monkeypatch.setattr(products_file, "PIECE", 40)  # several pieces and a rest
    monkeypatch.setattr("whence.sweep.workspace.CHUNK_BYTES", {"cpu": 2000, "cuda": 1})  # several tiles
    torch.testing.assert_close(found(Layout(batch_size=3)), expected, rtol=1e-9, atol=1e-12)
