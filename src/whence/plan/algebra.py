"""Times of linear algebra: decompositions, solves and Gram products, on one piece of each size that occurs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whence.curvature.gram import Gram
from whence.curvature.kronecker import BlockCurvature, eigenvectors
from whence.methods.evidence import Evidence
from whence.plan.flops import parts_of
from whence.plan.phases import SPECTRAL
from whence.plan.workload import Workload, numbered
from whence.sweep.basis import Basis
from whence.sweep.gram import COLUMNS, _sum_products
from whence.sweep.vectors import LowRank

LARGEST = 1024  # of a matrix that is decomposed here; larger ones cost the cube of their size more
GRAM_ROWS = 768

Clock = Callable[[], float]


def eigh_seconds(work: Workload, moments: Any, clock: Clock) -> float:
    """Of all eigendecompositions of a fit, on the moments of a few batches: real spectra deflate as they will."""
    curvature = work.curvature
    assert curvature is not None
    moments.finish(np.arange(0))
    examples: dict[int, Tensor] = {}
    counts: Counter[int] = Counter()
    for matrix in (*(moments.inputs.values() if isinstance(moments.inputs, dict) else moments.inputs),
                   *moments.outputs):
        start = 0
        for size in parts_of(len(matrix), curvature.parts):
            counts[size] += 1
            examples.setdefault(size, matrix[start : start + size, start : start + size])
            start += size
    return sum(count * _one_eigh(examples[size], clock) for size, count in counts.items())


def _one_eigh(matrix: Tensor, clock: Clock) -> float:
    size = min(len(matrix), LARGEST)
    begin = clock()
    eigenvectors(matrix[:size, :size], 1, "calibration")
    return (clock() - begin) * (len(matrix) / size) ** 3


def solve_seconds(work: Workload, clock: Clock) -> float:
    """Of all queries: the coordinates of one gradient divided and rotated back at each shape, and cut to its rank."""
    curvature = work.curvature
    assert curvature is not None
    shapes = Counter((block.outputs, block.inputs, block.bias) for block in work.blocks)
    total = 0.0
    for (outputs, inputs, bias), count in shapes.items():
        wide = inputs + bias
        parts = curvature.parts if curvature.moments else 0
        basis = Basis(_random(wide, parts, work), _random(outputs, parts, work))
        ones = torch.ones(outputs, wide, dtype=work.dtype, device=work.device)
        block = BlockCurvature("", basis, ones)
        V = torch.ones(3, outputs * wide, dtype=work.dtype, device=work.device)
        block.solve_rotated(V[:1], bias, 1.0)  # first touches
        begin = clock()
        block.solve_rotated(V[1:], bias, 1.0)
        each = (clock() - begin) / 2
        begin = clock()
        if work.rank:
            LowRank.of(V[2:], outputs, inputs, bias, work.rank)
        if work.device.type == "cuda":
            torch.cuda.synchronize(work.device)
        each += clock() - begin
        begin = clock()
        block.effective_dimension(1.0)
        total += count * (work.queries.count * each + clock() - begin)
    return total


def gram_seconds(work: Workload, clock: Clock) -> float:
    """`K = G G^T` over all columns, from one piece of them."""
    rows = min(work.train.count, GRAM_ROWS)
    columns = min(COLUMNS, max(block.parameters for block in work.blocks))
    G = torch.ones(rows, columns, dtype=work.dtype, device=work.device)
    _sum_products(G, G)
    begin = clock()
    _sum_products(G, G)
    return (clock() - begin) * (work.train.count / rows) ** 2 * work.parameters / columns


def method_seconds(work: Workload, clock: Clock) -> float:
    """The method itself on one block's Gram matrices, times the blocks."""
    rows, generator = min(work.train.count, GRAM_ROWS), np.random.default_rng(0)
    X = generator.standard_normal((rows, rows)) * np.arange(1, rows + 1) ** -0.5
    queries = work.queries.count
    cross = generator.standard_normal((queries, rows))
    gram = Gram("calibration", rows, X @ X.T, cross, np.ones(queries))
    picked = np.resize(np.arange(len(work.train.examples)), rows)
    evidence = Evidence(numbered(work.train.examples, picked), work.queries.examples, (gram,))
    begin = clock()
    work.call(evidence)
    spent = clock() - begin
    spectral = work.call.method.name in SPECTRAL
    whole = work.call.options.get("scope") == "model"
    return spent * (work.train.count / rows) ** (3 if spectral else 2) * (1 if whole else len(work.blocks))


def _random(size: int, parts: int, work: Workload) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(n, n, dtype=work.dtype, generator=generator).to(work.device) / n**0.5
                 for n in (parts_of(size, parts) if parts else ()))
