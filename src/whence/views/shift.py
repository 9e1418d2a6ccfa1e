"""Derivatives along a direction in the parameters, by really moving the weights there and back.

    s(alpha) = [f(theta + alpha x) - f(theta - alpha x)] / (2 alpha)  =  d/d alpha f + O(alpha^2)

The central difference costs two evaluations, as the one-sided one of Grosse et al. 2023 (eq. 36, 38) does, and errs
by O(alpha^2) rather than O(alpha). One alpha does not suit all: the influence of a query on an unrelated example is
small while its second-order effect is not, and many models compute their norms in float32 whatever the type of their
weights. So alpha is found, by Ridders' method (Advances in Engineering Software 4, 1982): s at alpha, alpha / 2,
alpha / 4, ..., extrapolated to 0 (Richardson), until the estimated error is below `tolerance` or rounding makes it
worse; the value with the smallest estimated error is taken.

**First step.** `alpha_0 = 0.005 min_b sqrt(out_b) / |x_b|`: a map that keeps the size of its inputs has the norm
sqrt(out), and no block moves by more than 0.005 of that. From the largest change of a value that this makes, alpha
is scaled, by a factor between 1/100 and 100, so that the largest change becomes 0.1 (nats).

**Check.** `linearity`: the largest |s(alpha) - s(alpha / 2)| over the largest |s|, at the last two steps used;
`error`: the estimated error of what is returned, over the largest value. Where `error` is beyond a few per cent the
values are not to be used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor, nn

from whence.base.errors import WhenceError
from whence.models.blocks import Block
from whence.sweep.capture import frozen
from whence.views.tokenwise import check_preconditioned, check_train_size

FIRST = 0.005  # first step, relative to a map that keeps the size of its inputs
CHANGE = 0.1  # largest change of a value at the step that is halved from there on
FURTHEST = 100.0  # most that the first step is scaled by
HALVINGS = 8
TOLERANCE = 1e-3
WORSE = 2.0  # times the smallest error seen: from there on rounding wins


@contextmanager
def shifted(blocks: Sequence[Block], direction: Sequence[Tensor], alpha: float) -> Iterator[None]:
    """While open, the weights and biases of the blocks are theta + alpha x; afterwards the same bits as before.

    Args:
        direction: one vector [P] a block, weights row-major over [out, in], then the bias.
    """
    changed = [parameter for block in blocks for parameter in _parameters(block)]
    kept = [parameter.detach().clone() for parameter in changed]
    try:
        with torch.no_grad():
            for block, x in zip(blocks, direction, strict=True):
                weight, *bias = _parameters(block)
                x = x.to(weight.device, weight.dtype)
                matrix = x[: block.outputs * block.inputs].view(block.outputs, block.inputs)
                weight.add_(matrix.T if block.kind == "conv1d" else matrix, alpha=alpha)  # stored [in, out]
                for b in bias:
                    b.add_(x[block.outputs * block.inputs :], alpha=alpha)
        yield
    finally:
        with torch.no_grad():
            for parameter, before in zip(changed, kept, strict=True):
                parameter.copy_(before)


def along_queries(model: nn.Module, blocks: Sequence[Block], preconditioned: Sequence[Tensor], train_size: int,
                  evaluate: Callable[[], np.ndarray], tolerance: float = TOLERANCE
                  ) -> tuple[Float64[np.ndarray, "Q n"], list[dict[str, Any]]]:
    """`(1/N) d/d alpha evaluate()` along x_q for each query, and the facts of each; the model frozen meanwhile.

    Args:
        preconditioned: x_q of every block, [Q, P] each.
        train_size: N.

    Raises:
        WhenceError: vectors that do not fit the blocks; half-precision weights; N below 1.
    """
    check_train_size(train_size)
    queries = check_preconditioned(blocks, preconditioned)
    with frozen(model):
        found = [directional(blocks, [x[q] for x in preconditioned], evaluate, tolerance) for q in range(queries)]
    return np.stack([derivatives for derivatives, _ in found]) / train_size, [fact for _, fact in found]


def directional(blocks: Sequence[Block], direction: Sequence[Tensor], evaluate: Callable[[], np.ndarray],
                tolerance: float = TOLERANCE) -> tuple[Float64[np.ndarray, " n"], dict[str, Any]]:
    """Derivative of `evaluate()` (float64 [n], a function of the blocks' weights) along `direction`.

    `tolerance` is the error, relative to the largest value, at which no further step is made; 0 for the best there is.

    Returns the derivatives, and facts: `alpha` (the last step used), `linearity`, `error` (see above; None where all
    values are 0), `evaluations`. A direction of zeros gives zeros.

    Raises:
        WhenceError: weights in half precision, which would round the step away (names the block).
    """
    _refuse_half_precision(blocks)
    norms = [float(x.cpu().double().norm()) for x in direction]
    if not any(norms):
        return np.zeros(len(evaluate())), {"alpha": 0.0, "linearity": None, "error": None, "evaluations": 1}

    def slope(alpha: float) -> np.ndarray:
        with shifted(blocks, direction, alpha):
            above = evaluate()
        with shifted(blocks, direction, -alpha):
            below = evaluate()
        return (above - below) / (2 * alpha)

    alpha = FIRST * min(block.outputs**0.5 / norm for block, norm in zip(blocks, norms, strict=True) if norm)
    change = alpha * _largest(slope(alpha))
    alpha *= float(np.clip(CHANGE / change if change else 1.0, 1 / FURTHEST, FURTHEST))
    return _extrapolated(slope, alpha, tolerance)


def _extrapolated(slope: Callable[[float], np.ndarray], alpha: float, tolerance: float
                  ) -> tuple[np.ndarray, dict[str, Any]]:
    """Ridders' table: row k begins with s(alpha / 2^k), its column j is free of the terms up to alpha^(2 j)."""
    row = [slope(alpha)]
    best, error, facts = row[0], np.inf, {"alpha": alpha, "linearity": None}
    pairs = 2  # the one that chose the step, and the first here
    for _ in range(HALVINGS):
        pairs += 1
        before, alpha = row, alpha / 2
        row = [slope(alpha)]
        for j, coarser in enumerate(before, start=1):
            row.append(row[-1] + (row[-1] - coarser) / (4**j - 1))
            apart = max(_largest(row[j] - row[j - 1]), _largest(row[j] - coarser))
            if apart < error:
                largest = _largest(row[0])
                best, error = row[j], apart
                facts = {"alpha": alpha, "linearity": _largest(row[0] - before[0]) / largest if largest else None}
        if error <= tolerance * _largest(best) or _largest(row[-1] - before[-1]) >= WORSE * error:
            break
    largest = _largest(best)
    return best, facts | {"error": error / largest if largest else None, "evaluations": 2 * pairs}


def _largest(values: np.ndarray) -> float:
    return float(np.abs(values).max(initial=0.0))


def _parameters(block: Block) -> list[Tensor]:
    return [block.module.weight, block.module.bias] if block.bias else [block.module.weight]  # type: ignore[list-item]


def _refuse_half_precision(blocks: Sequence[Block]) -> None:
    for block in blocks:
        dtype = block.module.weight.dtype
        if dtype not in (torch.float32, torch.float64):
            raise WhenceError(f"block {block.name!r} has {str(dtype).removeprefix('torch.')} weights, in which a small "
                              "step is rounded away; load the model with dtype=float32 for this view")
