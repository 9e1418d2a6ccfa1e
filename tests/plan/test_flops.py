"""Counts of multiply-adds against torch's own, taken below autograd while the phase really runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import nn

from tests import tiny
from tests.plan.counter import Counter
from whence.curvature.kronecker import BlockCurvature
from whence.data.examples import Examples
from whence.measure.labels import SampledLabels
from whence.methods.catalogue import parse_calls
from whence.models.blocks import Block, select_blocks
from whence.models.build import build_model, train_tokenizer
from whence.plan import flops
from whence.plan.calibrate import stand_in_bases, stand_in_vectors
from whence.plan.probe import Probe, probe
from whence.plan.workload import BatchShape, Count, Rows, Workload, shapes
from whence.sweep.basis import Basis
from whence.sweep.covariance import CovarianceSink
from whence.sweep.eigenvalues import EigenvalueSink
from whence.sweep.gram import DotSink, GradientStore
from whence.sweep.products import ProductSink
from whence.sweep.shampoo import ShampooSink
from whence.sweep.sweep import GradientSink, Layout, sweep

LAYOUT = Layout(batch_tokens=60)
WITHIN = 2e-3  # the look at the head with the first batch is not counted
QUERIES = 3


def wide_gpt2(dtype: torch.dtype = torch.float32) -> nn.Module:
    """Wide enough that covariances are summed by several stripes and some gradients are rotated whole."""
    tokenizer = train_tokenizer(["a"], 300)
    return build_model("gpt2", tokenizer, width=96, layers=2, heads=2, context=64).to(dtype)


MODELS: dict[str, Callable[..., nn.Module]] = {"llama": tiny.llama, "gpt2": tiny.gpt2, "lora": tiny.lora,
                                               "wide": wide_gpt2}


@pytest.fixture(params=list(MODELS))
def subject(request: pytest.FixtureRequest) -> tuple[nn.Module, list[Block], Examples, Probe]:
    model = MODELS[request.param](dtype=torch.float32)
    inner = model.base_model.model if request.param == "lora" else model
    inner.config._attn_implementation = "eager"  # torch counts no fused attention of a CPU
    blocks, data = select_blocks(model), tiny.examples(20)
    return model, blocks, data, probe(model, blocks, data, 0)


def counted(model: nn.Module, data: Examples, blocks: Sequence[Block], sinks: Sequence[GradientSink],
            sampled: bool = False) -> int:
    """What torch counts over a whole sweep."""
    with Counter() as counter:
        sweep(model, data, blocks, sinks, layout=LAYOUT, labels=SampledLabels() if sampled else None)
    return counter.flops


def ours(data: Examples, *works: Callable[[BatchShape], Count]) -> Count:
    """What we do."""
    return 2 * sum(work(shape) for work in works for shape in shapes(data, LAYOUT))


class Nothing:
    """A sink that takes nothing."""

    def update(self, share: object) -> None:
        """Leave it."""

    def finish(self, order: np.ndarray) -> None:
        """Leave it."""


def workload(model: nn.Module, blocks: Sequence[Block], data: Examples, method: str) -> Workload:
    return Workload(model, blocks, 0, Rows(data, len(data)), Rows(data, QUERIES), parse_calls([method])[0])


def test_forward_and_backward(subject: tuple[nn.Module, list[Block], Examples, Probe]) -> None:
    model, blocks, data, seen = subject
    assert ours(data, seen.forward_macs) == pytest.approx(counted(model, data, (), ()), rel=WITHIN)
    assert ours(data, seen.sweep_macs) == pytest.approx(counted(model, data, blocks, [Nothing()]), rel=WITHIN)
    assert seen.sweep_macs(BatchShape(2, 9, 7)) > 1.3 * seen.forward_macs(BatchShape(2, 9, 7))


def test_gradients_and_their_products_with_the_queries(subject: tuple[nn.Module, list[Block], Examples, Probe]
                                                       ) -> None:
    model, blocks, data, seen = subject
    queries = GradientStore(blocks, QUERIES)
    for gradient in queries.gradients:
        gradient.zero_()
    queries.finish(np.arange(QUERIES))
    found = counted(model, data, blocks, [GradientStore(blocks, len(data)), DotSink(queries, len(data))])
    assert found == pytest.approx(ours(data, seen.sweep_macs, lambda s: flops.gradient_macs(blocks, s),
                                       lambda s: flops.dot_macs(blocks, QUERIES, s)), rel=WITHIN)


def test_covariances(subject: tuple[nn.Module, list[Block], Examples, Probe]) -> None:
    model, blocks, data, seen = subject
    found = counted(model, data, blocks, [CovarianceSink(blocks)], sampled=True)
    assert found == pytest.approx(ours(data, seen.sweep_macs,
                                       lambda s: flops.covariance_macs(blocks, seen.source, s)), rel=WITHIN)


def test_moments_of_shampoo(subject: tuple[nn.Module, list[Block], Examples, Probe]) -> None:
    model, blocks, data, seen = subject
    found = counted(model, data, blocks, [ShampooSink(blocks)])
    assert found == pytest.approx(ours(data, seen.sweep_macs, lambda s: flops.shampoo_macs(blocks, s)), rel=WITHIN)


@pytest.mark.parametrize("method", ["ekfac", "ekfac(parts=3)", "eshampoo", "diagonal"])
def test_eigenvalues(subject: tuple[nn.Module, list[Block], Examples, Probe], method: str) -> None:
    model, blocks, data, seen = subject
    work = workload(model, blocks, data, method)
    curvature = work.curvature
    assert curvature is not None
    moments = CovarianceSink(blocks) if method.startswith("ekfac") else ShampooSink(blocks)
    sweep(model, data, blocks, [moments], layout=LAYOUT)
    found = counted(model, data, blocks, [EigenvalueSink(blocks, stand_in_bases(work, curvature, moments))])
    parts = curvature.parts if curvature.moments else 0
    expected = ours(data, seen.sweep_macs, lambda s: flops.eigenvalue_macs(
        blocks, seen.source, parts, curvature.moments == "covariance", s))
    assert found == pytest.approx(expected, rel=WITHIN)


@pytest.mark.parametrize("rank", [0, 2])
def test_products_with_the_vectors(subject: tuple[nn.Module, list[Block], Examples, Probe], rank: int) -> None:
    model, blocks, data, seen = subject
    work = workload(model, blocks, data, f"ekfac(rank={rank})")
    found = counted(model, data, blocks, [ProductSink(blocks, stand_in_vectors(work, QUERIES), len(data))])
    assert found == pytest.approx(ours(data, seen.sweep_macs, lambda s: flops.product_macs(
        blocks, QUERIES, rank, s)), rel=WITHIN)


@pytest.mark.parametrize("parts", [1, 3])
def test_solve(parts: int) -> None:
    block = select_blocks(tiny.gpt2(dtype=torch.float32))[0]
    wide = block.inputs + block.bias
    basis = Basis(tuple(torch.eye(n) for n in flops.parts_of(wide, parts)),
                  tuple(torch.eye(n) for n in flops.parts_of(block.outputs, parts)))
    curved = BlockCurvature("", basis, torch.ones(block.outputs, wide))
    V = torch.ones(QUERIES, block.parameters)
    with Counter() as counter:
        curved.solve_rotated(V, block.bias, 1.0)
    if parts == 1:  # the bias's part is a product of a matrix and a vector
        assert counter.flops == 2 * (flops.solve_macs([block], parts, QUERIES)
                                     - QUERIES * block.outputs * wide * block.bias)
    else:
        assert counter.flops == 2 * flops.solve_macs([block], parts, QUERIES)


def test_the_triangle_is_less_than_the_square() -> None:
    assert flops.gram_area(64) == 64 * 64
    assert flops.gram_area(1024) == int(1024**2 * 0.625)
    assert flops.gram_macs(10, 7) == 55 * 7 and flops.eigh_macs(10) == 3000
