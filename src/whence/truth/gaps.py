"""The five gaps between what an influence function computes and what training without the rows would do.

    gap                from -> to     what it holds
    warm-start         r0 -> r1       another start, another minimum
    proximity          r1 -> r2       the weights are held near the trained ones
    non-convergence    r2 -> r3       the training had not ended in a minimum
    linearisation      r3 -> r4       the response is taken to be linear
    solver             r4 -> r5       the inverse product is not exact, or its curvature is another

`whence.truth.responses` has r0 to r5. Distances are taken in outputs on rows of one's choice and in weights,

    d_out(a, b) = sqrt(mean over outputs of |z_a - z_b|^2)        d_par(a, b) = |a - b|

(softmax outputs centred over their classes), so that the distance from r0 to r5 is at most the sum of the five. Beside
them: how the practical estimate correlates, over sets of rows, with what each response does to queries. There every
response is held against its own control, the same with nothing taken out: an unconverged training goes on training.

Bae et al. 2022, arXiv 2209.05364.

Shapes: M sets of rows, Q queries, P weights.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from whence.base.errors import WhenceError
from whence.base.progress import track
from whence.truth.output_loss import CrossEntropy
from whence.truth.responses import Forward, InverseProduct, Responses

NAMES = ("cold start", "warm start", "proximal", "PBRF", "linearised", "practical")
GAPS = ("warm-start", "proximity", "non-convergence", "linearisation", "solver")
NOTHING: tuple[int, ...] = ()

Cold = Callable[[Sequence[int] | np.ndarray], Float[Tensor, " P"]]
Measure = Callable[[Float[Tensor, " P"]], Float[np.ndarray, " Q"]]


@dataclass(frozen=True)
class Gaps:
    """What was found for M sets of rows.

    Attributes:
        output, parameter: distances [M], by gap.
        total_output, total_parameter: from r0 to r5 [M].
        changes: of each query under each response, less that of its control [M, Q], by response.
        left: norm of the gradient at the minima of r1 to r3, relative to that of one row's loss over N, [M, 3].
    """

    output: Mapping[str, Float[np.ndarray, " M"]]
    parameter: Mapping[str, Float[np.ndarray, " M"]]
    total_output: Float[np.ndarray, " M"]
    total_parameter: Float[np.ndarray, " M"]
    changes: Mapping[str, Float[np.ndarray, "M Q"]]
    left: Float[np.ndarray, "M 3"]

    def correlations(self) -> dict[str, float]:
        """Pearson's of the practical estimate with every response, over sets of rows, mean over queries.

        NaN where fewer than three sets, or where one side never moves.
        """
        told = self.changes["practical"]
        return {name: _pearson(told, self.changes[name]) for name in NAMES[:-1]}


def five_gaps(responses: Responses, removed: Sequence[Sequence[int] | np.ndarray], cold: Cold, outputs: Forward,
              measure: Measure, practical: InverseProduct) -> Gaps:
    """r0 to r5 for every set of rows.

    Args:
        responses: of the trained model.
        removed: the sets, none empty.
        cold: trains from fresh weights without some rows (or `responses.share` of their weight); the same start for
            every set.
        outputs: what distances are taken in, as a function of the weights.
        measure: of each query, as a function of the weights.
        practical: the inverse product of r5.

    Raises:
        WhenceError: no sets, or an empty one.
    """
    if not removed or any(len(rows) == 0 for rows in removed):
        raise WhenceError("the sets of rows to take out: expected one at least, and none of them empty")
    centre = isinstance(responses.problem.loss, CrossEntropy)

    def seen(theta: Tensor) -> Tensor:
        with torch.no_grad():
            z = outputs(theta)
        return z - z.mean(dim=-1, keepdim=True) if centre else z

    def chain(rows: Sequence[int] | np.ndarray) -> tuple[list[Tensor], list[float]]:
        minima = [responses.warm(rows), responses.proximal(rows), responses.bregman(rows)]
        ends = [responses.linear(rows), responses.linear(rows, practical)] if len(rows) else [responses.trained] * 2
        return ([cold(rows), *(one.theta for one in minima), *ends],
                [one.gradient / responses.size for one in minima])

    control = [measure(theta) for theta in chain(NOTHING)[0]]
    output, parameter = [], []
    totals, changes, left = [], {name: list[np.ndarray]() for name in NAMES}, []
    for rows in track(removed, "responses", len(removed)):
        thetas, gradients = chain(rows)
        z = [seen(theta) for theta in thetas]
        output.append([_apart(a, b) for a, b in pairwise(z)])
        parameter.append([float((a - b).norm()) for a, b in pairwise(thetas)])
        totals.append([_apart(z[0], z[-1]), float((thetas[0] - thetas[-1]).norm())])
        left.append(gradients)
        for name, theta, before in zip(NAMES, thetas, control, strict=True):
            changes[name].append(measure(theta) - before)
    by_gap = [dict(zip(GAPS, np.array(part).T, strict=True)) for part in (output, parameter)]
    both = np.array(totals)
    return Gaps(by_gap[0], by_gap[1], both[:, 0], both[:, 1],
                {name: np.stack(of_name) for name, of_name in changes.items()}, np.array(left))


def _apart(a: Tensor, b: Tensor) -> float:
    return float((a - b).square().sum(dim=-1).mean().sqrt())


def _pearson(a: Float[np.ndarray, "M Q"], b: Float[np.ndarray, "M Q"]) -> float:
    if len(a) < 3:
        return float("nan")
    x, y = a - a.mean(axis=0), b - b.mean(axis=0)
    size = np.sqrt((x**2).sum(axis=0) * (y**2).sum(axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        per_query = np.where(size > 0, (x * y).sum(axis=0) / size, np.nan)
    return float(np.nanmean(per_query)) if np.isfinite(per_query).any() else float("nan")
