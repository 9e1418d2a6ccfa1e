"""One method's vectors x = (C + lambda I)^-1 v of all queries: what tokens, probes and streams are scored with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from whence.base.errors import WhenceError
from whence.curvature.fit import Situation
from whence.curvature.products import resident_queries, solve_queries
from whence.curvature.solver import Solution, Solver
from whence.data.examples import Examples
from whence.measure.measurement import Measurement
from whence.methods.registry import METHODS, parse
from whence.sweep.gram import check_finite
from whence.sweep.products import ProductSink
from whence.sweep.sweep import sweep


def solver_of(method: str, what: str) -> tuple[str, Solver]:
    """A method's full name and its solver.

    Raises:
        WhenceError: unknown method, or one that is no `v^T (C + lambda I)^-1 g`; names those that are.
    """
    call = parse(method)
    if call.solver is None:
        having = ", ".join(name for name, entry in METHODS.items() if entry.solver)
        raise WhenceError(f"method {method!r}: has no {what}, as it makes no vectors of the queries; these have: "
                          f"{having}")
    return str(call), call.solver


def unit_of(facts: Mapping[str, Any]) -> str:
    """The unit of `x^T g / N`."""
    return "nats per unit step" if facts.get("curvature") == "identity" else "nats"


def solve_at_once(situation: Situation, queries: Examples, solver: Solver, measurement: Measurement,
                  memory: int | None) -> Solution:
    """The vectors of all queries, with the facts that every score has.

    Raises:
        WhenceError: they do not fit in memory together.
    """
    blocks = situation.blocks
    if len(resident := resident_queries(situation, len(queries), 1, memory)) > 1:
        raise WhenceError(f"the vectors of {len(queries)} queries do not fit in memory together, those of "
                          f"{min(map(len, resident))} do: ask for fewer queries at once, or choose fewer blocks")
    (solution,), _ = solve_queries(situation, queries, [solver], measurement)
    common = {"parameters": sum(block.parameters for block in blocks), "blocks": len(blocks),
              "n": len(situation.train), "loss": "sum over response tokens"}
    return Solution(solution.vectors, {**solution.facts, **common})


def score_examples(situation: Situation, solution: Solution, examples: Examples, what: str,
                   names: Sequence[str] | None = None) -> Float64[np.ndarray, "Q R"]:
    """`(1/N) x^T g` of any examples, one pass; N is the number of training rows.

    Args:
        names: of the examples in errors, if not their ids.

    Raises:
        WhenceError: a gradient or product is not finite.
    """
    sink = ProductSink(situation.blocks, solution.vectors, len(examples))
    sweep(situation.model, examples, situation.blocks, [sink], pad_id=situation.pad_id, layout=situation.layout,
          what=what)
    for products, block in zip(sink.products, situation.blocks, strict=True):
        check_finite(products.double().square().sum(dim=0).cpu().numpy(), block.name, names or examples.ids)
    return sink.products.double().cpu().numpy().sum(axis=0) / len(situation.train)
