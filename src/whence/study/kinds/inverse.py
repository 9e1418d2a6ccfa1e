"""How far each inverse-curvature product is from the exact one, and how far the curvature itself is off.

Two references, at every damping. Against the exact solution for the *empirical Fisher* of each block, from Gram
matrices (`whence.curvature.gram_vectors`): what a solver does wrong. Against conjugate gradients on exact products
with the *Gauss-Newton* matrix over all blocks: what the curvature does wrong as well.

    angle       sqrt(1 - cos^2) between x and x*: the error at the best scale, which is all that a ranking sees
    relative    |x - x*| / |x*|

A Gauss-Newton damping and an empirical Fisher's are each relative to their own mean eigenvalue, so sizes do not compare
across the two; angles do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from whence.curvature.blockwise import dots
from whence.curvature.damping import Damping
from whence.curvature.exact import ConjugateGradients, Exact
from whence.curvature.gram import Gram, add_up
from whence.curvature.gram_vectors import (
    GramVector,
    datainf_vector,
    exact_vector,
    identity_vector,
    lissa_published_vector,
    lissa_vector,
    over_blocks,
    solver_errors,
    spectrum_facts,
)
from whence.curvature.kronecker import Curvature
from whence.curvature.products import solve_queries
from whence.curvature.solver import Kronecker
from whence.study.cell import Cell, Row, kind
from whence.study.cost import Work
from whence.study.encoding import Encoding
from whence.study.kinds.evidence import Seen, evidence_of
from whence.study.kinds.fine_tune import load_fine_tune, rows_and_tokens
from whence.study.kinds.fine_tune import work as training_work
from whence.sweep.gram import GradientStore
from whence.sweep.sweep import sweep

FISHER, GAUSS_NEWTON = "empirical Fisher", "Gauss-Newton"
LISSA_ITERATIONS = 1000


def work(cell: Cell) -> Work:
    """A few passes for Gram matrices; conjugate gradients for some queries at every damping."""
    once, options = training_work(cell.needs[0]), cell.options
    rows, tokens = rows_and_tokens(cell.needs[0].options)
    products = options["exact_queries"] * options["iterations"] * len(options["exact_dampings"])
    return Work(rows * tokens / 4096 * (4 + 1.4 * products), once.layers, 4096, once.weights, 1.0)


@kind("inverse", work)
def inverse(options: Mapping[str, Any], folder: Path, needs: Sequence[Path]) -> list[Row]:
    """Errors of every solver by damping, and the spectrum."""
    tuned = load_fine_tune(needs[0], options["task"], options["seed"])
    seen = evidence_of(tuned, Encoding.of(options["encoding"]), [])
    grams = seen.evidence.grams
    rows: list[Row] = [{"metric": "parameters", "value": float(sum(gram.parameters for gram in grams))},
                       {"metric": "blocks", "value": float(len(grams))}]
    whole = add_up(grams)
    for damping in options["dampings"]:
        facts = asdict(spectrum_facts(whole, whole.damping(damping)))
        rows += [{"damping": damping, "scoring": FISHER, "metric": name, "value": float(value)}
                 for name, value in facts.items()]
        for name in ("datainf", "identity", "lissa", "lissa-published"):
            errors = over_blocks([solver_errors(gram, vector_of(name, gram, damping),
                                                exact_vector(gram, gram.damping(damping))) for gram in grams])
            rows += errors_of(name, FISHER, damping, errors.best_scale, errors.relative)
    if options["exact_queries"]:
        for damping in options["exact_dampings"]:
            rows += against_gauss_newton(seen, damping, options["exact_queries"], options["iterations"])
    return rows


def vector_of(name: str, gram: Gram, damping: float) -> GramVector:
    """A solver's vectors on the empirical Fisher of one block."""
    lam = gram.damping(damping)
    if name == "lissa":
        return lissa_vector(gram, lam, LISSA_ITERATIONS)
    if name == "lissa-published":
        return lissa_published_vector(gram, lam, 3)
    return {"datainf": datainf_vector, "identity": identity_vector, "fisher": exact_vector}[name](gram, lam)


def errors_of(name: str, reference: str, damping: float, angles: np.ndarray, relative: np.ndarray) -> list[Row]:
    """A row for each query and metric."""
    return [{"method": name, "scoring": reference, "damping": damping, "query": q, "metric": metric,
             "value": float(value)}
            for metric, of in (("angle", angles), ("relative", relative)) for q, value in enumerate(of)]


def against_gauss_newton(seen: Seen, damping: float, count: int, iterations: int) -> list[Row]:
    """EK-FAC, DataInf, the exact empirical Fisher and plain gradients against conjugate gradients' solution."""
    situation, grams = seen.situation, seen.evidence.grams
    some = np.linspace(0, len(seen.queries) - 1, count).round().astype(int)
    queries = seen.queries.select(some)
    exact = ConjugateGradients(Exact(Damping(damping), rows=-1), iterations, 1e-4)
    kronecker = {"ekfac": Kronecker(Curvature("ekfac", rows=-1), Damping(damping)),
                 "ekfac(labels=empirical)": Kronecker(Curvature("ekfac", "empirical", -1), Damping(damping))}
    solutions, _ = solve_queries(situation, queries, [exact, *kronecker.values()])
    reference = [vectors.whole() for vectors in solutions[0].vectors]
    rows: list[Row] = [{"method": "cg", "scoring": GAUSS_NEWTON, "damping": damping, "metric": name,
                        "value": float(value)} for name, value in
                       (("residual", solutions[0].facts["residual"]["median"]),
                        ("largest residual", solutions[0].facts["residual"]["max"]))]
    found = {name: [vectors.whole() for vectors in solution.vectors]
             for name, solution in zip(kronecker, solutions[1:], strict=True)}
    V, G = gradients(seen, queries), gradients(seen, seen.train)
    for name in ("datainf", "fisher", "identity"):
        vectors = [vector_of(name, gram, damping) for gram in grams]
        found[name] = [torch.from_numpy(one.alpha[some]).to(v)[:, None] * v + torch.from_numpy(one.b[some]).to(g) @ g
                       for one, v, g in zip(vectors, V, G, strict=True)]
    whole = add_up(grams)
    of_all = exact_vector(whole, whole.damping(damping))
    found["fisher(scope=model)"] = [torch.from_numpy(of_all.alpha[some]).to(v)[:, None] * v
                                    + torch.from_numpy(of_all.b[some]).to(g) @ g for v, g in zip(V, G, strict=True)]
    for name, x in found.items():
        rows += errors_of(name, GAUSS_NEWTON, damping, *distance(x, reference))
    return rows


def gradients(seen: Seen, examples: Any) -> list[Tensor]:
    """Per-example gradients of every block, [rows, P] each."""
    situation = seen.situation
    store = GradientStore(situation.blocks, len(examples), situation.device, situation.dtype)
    sweep(situation.model, examples, situation.blocks, [store], pad_id=situation.pad_id, layout=situation.layout)
    return store.take()


def distance(x: Sequence[Tensor], exact: Sequence[Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """(angle, relative error) of each query's vector over all blocks."""
    xx, ee, xe = (dots(a, b).numpy() for a, b in ((x, x), (exact, exact), (x, exact)))
    cosine = xe / np.sqrt(xx * ee)
    apart = [a - b for a, b in zip(x, exact, strict=True)]
    return np.sqrt(np.clip(1 - cosine**2, 0, 1)), np.sqrt(dots(apart, apart).numpy() / ee)
