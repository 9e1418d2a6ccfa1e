"""Solvers at work: query gradients in, resident vectors, one pass over the training rows, products out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from whence.base.errors import WhenceError
from whence.base.hashing import hash_json
from whence.curvature.collect import free_memory
from whence.curvature.fit import Situation
from whence.curvature.solver import Kronecker, Solution, Solver
from whence.data.examples import Examples
from whence.measure.measurement import Measurement
from whence.sweep.gram import GradientStore, check_finite
from whence.sweep.products import ProductSink
from whence.sweep.resume import Keeper
from whence.sweep.rotated import RotatedStore
from whence.sweep.sweep import Measured, sweep


@dataclass(frozen=True)
class Products:
    """`x^T g` of every query and training row by block, [blocks, Q, N] float64; the solver's facts; and what was
    measured of the queries on the way, where they were not read back from a store."""

    by_block: Float[np.ndarray, "blocks Q N"]
    facts: Mapping[str, Any]
    queries: Measured | None = None

    def total(self) -> Float[np.ndarray, "Q N"]:
        """The sum over blocks."""
        return self.by_block.sum(axis=0)


def collect_products(situation: Situation, queries: Examples, solvers: Sequence[Solver],
                     measurement: Measurement | None = None, memory: int | None = None,
                     path: Callable[[str], Path | None] = lambda name: None) -> dict[Solver, Products]:
    """Products of every solver's vectors with every training row, in one pass for all queries and solvers.

    Only where the vectors do not fit in memory together are the queries taken in blocks, a pass each, planned
    beforehand.

    Args:
        measurement: what is attributed of a query; default the log-probability of the response.
        memory: bytes for vectors; default half of what is free.
        path: a file for the state of a pass, from its name, so that a killed pass goes on.

    Raises:
        WhenceError: the vectors of a single query do not fit; a gradient or product is not finite (names the row).
    """
    blocks, train = situation.blocks, situation.train
    parts, seen = [], []
    resident = resident_queries(situation, len(queries), len(solvers), memory)
    for rows in resident:
        part = queries.select(rows)
        solutions, measured = solve_queries(situation, part, solvers, measurement)
        seen.append(measured)
        sinks = [ProductSink(blocks, solution.vectors, len(train)) for solution in solutions]
        kept = path(hash_json([part.content_hash, [repr(solver) for solver in solvers]]))
        sweep(situation.model, train, blocks, sinks, pad_id=situation.pad_id, layout=situation.layout,
              what="scores of the training rows", keeper=Keeper(kept) if kept else None)
        for sink in sinks:
            for b, block in enumerate(blocks):
                check_finite(sink.products[b].double().square().sum(dim=0).cpu().numpy(), block.name, train.ids)
        parts.append([(sink.products.double().cpu().numpy(), solution.facts)
                      for sink, solution in zip(sinks, solutions, strict=True)])
    common = {"parameters": sum(block.parameters for block in blocks), "blocks": len(blocks), "n": len(train),
              "loss": "sum over response tokens", "query_blocks": len(resident)}
    measured = Measured(*(np.concatenate([getattr(one, name) for one in seen]) for name in ("values", "wrong_tokens")))
    return {solver: Products(np.concatenate([part[place][0] for part in parts], axis=1),
                             {**parts[0][place][1], **common}, measured) for place, solver in enumerate(solvers)}


def solve_queries(situation: Situation, queries: Examples, solvers: Sequence[Solver],
                  measurement: Measurement | None = None) -> tuple[list[Solution], Measured]:
    """The vectors of every solver for some queries, all resident at once, and what was measured of the queries.

    Raises:
        WhenceError: the gradient of a query is not finite (names it and the block).
    """
    blocks = situation.blocks
    only = solvers[0] if len(solvers) == 1 else None
    if isinstance(only, Kronecker):  # its bases first, so that gradients are formed in them
        bases = [block.basis for block in situation.fit(only.curvature).blocks]
        store: GradientStore = RotatedStore(blocks, bases, len(queries), situation.device, situation.dtype)
    else:
        store = GradientStore(blocks, len(queries), situation.device, situation.dtype)
    measured = sweep(situation.model, queries, blocks, [store], measurement=measurement, pad_id=situation.pad_id,
                     layout=situation.layout, what="gradients of the queries")
    gradients = store.take()
    for block, V in zip(blocks, gradients, strict=True):
        check_finite(torch.linalg.vector_norm(V, dim=1).double().cpu().numpy(), block.name, queries.ids)
    if isinstance(only, Kronecker):
        return [only.solve_rotated(gradients, situation)], measured
    solutions = [solver.solve([V.clone() for V in gradients], situation) for solver in solvers[:-1]]
    return [*solutions, solvers[-1].solve(gradients, situation)], measured


def resident_queries(situation: Situation, queries: int, solvers: int, memory: int | None = None) -> list[np.ndarray]:
    """Which queries are resident together: as few blocks as fit in memory, of nearly equal size."""
    parameters = sum(block.parameters for block in situation.blocks)
    each = parameters * situation.dtype.itemsize * (solvers + (solvers > 1))
    memory = memory or free_memory(situation.model) // 2
    most = memory // each
    if most == 0:
        raise WhenceError(f"the vectors of one query take {each / 2**30:.1f} GiB for {solvers} methods over "
                          f"{parameters:,} parameters, and {memory / 2**30:.1f} GiB are free for them: ask for fewer "
                          "methods at once, or choose fewer blocks")
    return np.array_split(np.arange(queries), -(-queries // most))
