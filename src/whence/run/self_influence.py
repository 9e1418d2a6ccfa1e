"""Self-influence: what one more copy of a training row would do to the log-probability of that row itself.

    s_i = (1/N) g_i^T (C + lambda I)^-1 g_i

Large for rows that the model can only have memorised: rare, mislabelled or odd ones (Koh & Liang 2017, section 5;
Feldman & Zhang 2020, who estimate it by retraining).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64

from whence.base.errors import WhenceError
from whence.curvature.fit import Situation
from whence.curvature.solver import Identity, Kronecker, Solver
from whence.methods.registry import METHODS
from whence.sweep.basis import Basis
from whence.sweep.gram import check_finite
from whence.sweep.resume import Keeper
from whence.sweep.self_influence import SelfInfluenceSink
from whence.sweep.sweep import sweep


def self_influence(situation: Situation, method: str, solver: Solver, path: Path | None = None) -> Float64[np.ndarray,
                                                                                                           " N"]:
    """s of every training row; one pass. A method's `rank` has no part in it: no vector is kept.

    Args:
        path: a file for the state of the pass, so that a killed one goes on.

    Raises:
        WhenceError: a method whose curvature is in no eigenbasis (names those that are); a gradient that is not finite.
    """
    blocks, train = situation.blocks, situation.train
    if isinstance(solver, Identity):
        bases = [Basis() for _ in blocks]
        inverse = [torch.ones(block.outputs, block.inputs + block.bias, dtype=situation.dtype, device=situation.device)
                   for block in blocks]
    elif isinstance(solver, Kronecker):
        fitted = situation.fit(solver.curvature)
        bases = [block.basis for block in fitted.blocks]
        inverse = [1 / (block.eigenvalues + lam) for block, lam in
                   zip(fitted.blocks, solver.lambdas(fitted), strict=True)]
    else:
        having = ", ".join(name for name, entry in METHODS.items()
                           if entry.solver and isinstance(entry.solver(), Identity | Kronecker))
        raise WhenceError(f"method {method!r}: has no self-influence in one pass; these have: {having}")
    sink = SelfInfluenceSink(blocks, bases, inverse, len(train))
    sweep(situation.model, train, blocks, [sink], pad_id=situation.pad_id, layout=situation.layout,
          what="self-influence of the training rows", keeper=Keeper(path) if path else None)
    values = sink.values.cpu().numpy()
    for block, of_block in zip(blocks, values, strict=True):
        check_finite(of_block, block.name, train.ids)
    return values.sum(axis=0) / len(train)
