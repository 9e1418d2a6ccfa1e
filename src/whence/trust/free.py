"""Dials that cost no more than the scores did: what the scores, the rows and one more pass say by themselves.

Limits are given with each dial. They are conventions, set so that planted faults are told from sound runs
(`docs/trust.md` has the counts); a card always says the number beside the reading.

Shapes: Q queries, N training rows, b blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from whence.data.examples import Examples
from whence.tasks.agreement import TOP_K, rank_correlation
from whence.tasks.interval import bootstrap_mean
from whence.tasks.ranking import Ranking
from whence.trust.dial import Dial, Reading, at_least, at_most

CUT = (0.05, 0.5)  # share of cut rows: good up to, bad above
INVARIANT = (1e-3, 1e-2)
IDLE = (0.97, 0.99)  # rank correlation with gradient dot: good up to, bad above
OUTLIER = (0.3, 0.5)  # one row's share of the square gradients of all
SETTLED = (0.8, 0.5)  # rank correlation of the scores at the last two checkpoints
HUB = (0.3, 0.5)  # one row's share of the squared scores of the median query
FEWEST = 3  # queries that a hub is told from a good hit by
PULL = (1.0, 3.0)  # square norm of the mean gradient, in what independent rows leave by chance
SLOPE = (0.05, 0.15)  # fall of the loss over the last tenth of the steps, of the tenth before
OWN = (0.95, 0.8)  # place of a training row among all rows when it is asked for: good from, bad below


def rows_used(train: Examples, queries: Examples) -> Dial:
    """Were texts cut off? Share of training rows and queries that are not whole."""
    cut = [int(np.sum(examples.truncated)) for examples in (train, queries)]
    share = max(cut[0] / max(len(train), 1), cut[1] / max(len(queries), 1))
    return Dial("rows", "free", "sanity", at_most(share, *CUT),
                f"{len(train)} of {len(train)} training rows scored for {len(queries)} queries; {cut[0]} and {cut[1]} "
                "were cut off at the maximum length; no number is NaN or infinite",
                f"at most {CUT[0]:.0%} cut off", share, unit="share")


def batch_invariance(deviation: float, rows: int) -> Dial:
    """Do gradients depend on who else is in the batch? `deviation` as `trust.measure.batch_deviation` gives it."""
    return Dial("batch invariance", "free", "sanity", at_most(deviation, *INVARIANT),
                f"gradients of {rows} rows change by {deviation:.1e} of their size between batches of one and padded "
                "batches", f"at most {INVARIANT[0]:g}", deviation, unit="relative")


def convergence(common: float, slope: float, rows: int) -> Dial:
    """Has the fine-tune converged? Influence functions assume that the training rows' gradients cancel.

        pull  = N |mean_i g_i|^2 / mean_i |g_i|^2       0 at a stationary point; 1 is what independent rows leave by
                                                        chance; N where every row still pulls the same way
        slope = 1 - loss of the last tenth of the steps / loss of the tenth before

    Read from both, the worse one; a slope of NaN (no log) is left out.

    Args:
        common: the pull over N (`trust.measure.look_at_gradients`).
    """
    pull = rows * common
    falling = "" if np.isnan(slope) else f"; over the last tenth of the steps the loss changed by {-slope:+.1%}"
    reading = max(at_most(pull, *PULL), at_most(slope, *SLOPE))
    return Dial("convergence", "free", "cause", reading,
                f"the rows' gradients do not cancel: their mean is {pull:.2g} x what chance leaves{falling}"
                if pull > PULL[0] else
                f"the rows' gradients cancel: their mean is {pull:.2g} x what chance leaves{falling}",
                f"at most {PULL[0]:g} x, and a fall of at most {SLOPE[0]:.0%}", pull, unit="x chance")


def outliers(largest: float, row: str, rows: int) -> Dial:
    """Does one row hold most of the gradient? Its square norm among those of all rows.

    Scores of such a row are far beyond what a linear estimate can say, and it bends the curvature too. Limits are for
    many rows; of n rows one holds 1/n at least.
    """
    limit = tuple(max(one, few / rows) for one, few in zip(OUTLIER, (4, 8), strict=True))
    return Dial("outliers", "free", "cause", at_most(largest, *limit),
                f"row {row!r} holds {largest:.0%} of the square gradients of all {rows} rows",
                f"at most {limit[0]:.0%}", largest, unit="share")


def loss_slope(log: Sequence[Mapping[str, Any]]) -> float:
    """The relative fall of the loss over the last tenth of the steps; NaN for fewer than 10 steps.

    Weighted by the tokens of each step, so that it is of the mean loss a token.
    """
    tenth = len(log) // 10
    if tenth == 0:
        return float("nan")
    losses = np.array([line["loss"] for line in log])
    tokens = np.array([line["tokens"] for line in log], dtype=np.float64)
    last, before = (np.average(losses[part], weights=tokens[part]) for part in
                    (slice(-tenth, None), slice(-2 * tenth, -tenth)))
    return float(1 - last / before) if before > 0 else 0.0


def idle_curvature(scores: Float[np.ndarray, "Q N"], gradient_dot: Float[np.ndarray, "Q N"]) -> Dial:
    """Does the curvature change anything? Rank correlation with gradients alone; near 1 it does not."""
    per_query = rank_correlation(Ranking.of(scores), Ranking.of(gradient_dot))
    found = bootstrap_mean(per_query)
    readings = tuple(at_most(x, *IDLE) for x in per_query)
    return Dial("curvature at work", "free", "cause", at_most(found.value, *IDLE),
                f"rank correlation {found} with gradient dot, which has no curvature", f"at most {IDLE[0]:g}",
                found.value, found.low, found.high, "rank correlation", per_query, readings)


def settled(scores: Float[np.ndarray, "Q N"], earlier: Float[np.ndarray, "Q N"], before: int, last: int) -> Dial:
    """Would the same method have said the same at the checkpoint before? Scores that still move are of a model on its
    way. (A pass and a fit, so it is asked at the cheap level.)
    """
    per_query = rank_correlation(Ranking.of(scores), Ranking.of(earlier))
    found = bootstrap_mean(per_query)
    return Dial("settled", "cheap", "cause", at_least(found.value, *SETTLED),
                f"rank correlation {found} between the scores at steps {before} and {last}", f"at least {SETTLED[0]:g}",
                found.value, found.low, found.high, "rank correlation", per_query,
                tuple(at_least(x, *SETTLED) for x in per_query))


def overlap(scores: Float[np.ndarray, "Q N"], other: Float[np.ndarray, "Q N"], name: str) -> Dial:
    """Would a trivial method have said the same? Never decides; a high agreement is a fact, not a fault."""
    a, b = Ranking.of(scores), Ranking.of(other)
    found, k = bootstrap_mean(rank_correlation(a, b)), min(TOP_K, scores.shape[1])
    shared = np.mean([len(set(x[:k]) & set(y[:k])) / k for x, y in zip(a.order, b.order, strict=True)])
    return Dial(f"like {name}", "free", "note", Reading.UNKNOWN,
                f"rank correlation {found} with {name}; {shared:.0%} of the top {k} are the same (by chance "
                f"{k / scores.shape[1]:.0%})", "a fact: neither good nor bad", found.value, found.low, found.high,
                "rank correlation")


def hubs(scores: Float[np.ndarray, "Q N"], ids: Sequence[str]) -> Dial:
    """Does one row win whatever is asked? The largest median over queries of a row's share of the squared scores."""
    square = scores**2
    total = square.sum(axis=1, keepdims=True)
    shares = np.divide(square, total, out=np.zeros_like(square), where=total > 0)
    median = np.median(shares, axis=0)
    row = int(median.argmax())
    few = len(scores) < FEWEST
    reading = Reading.UNKNOWN if few else at_most(float(median[row]), *HUB)
    says = (f"{len(scores)} queries are too few to tell a hub from a good hit" if few else
            f"row {ids[row]!r} holds {median[row]:.0%} of the squared scores of the median query")
    return Dial("hubs", "free", "cause", reading, says, f"at most {HUB[0]:.0%}", float(median[row]), unit="share")


def self_retrieval(places: Float[np.ndarray, " rows"]) -> Dial:
    """Asked for training rows, does the method find them? Median share of the rows that come behind the row itself."""
    median = float(np.median(places)) if len(places) else float("nan")
    return Dial("self-retrieval", "free", "cause", at_least(median, *OWN),
                f"asked for {len(places)} training rows, it puts the row itself before {median:.1%} of all (median); "
                f"first in {np.mean(places == 1):.0%}", f"at least {OWN[0]:.0%}", median, unit="share")


def own_places(scores: Float[np.ndarray, "rows N"], rows: np.ndarray) -> Float[np.ndarray, " rows"]:
    """Share of the other rows that score below the row itself, ties counting half, for queries that are the rows."""
    own = scores[np.arange(len(rows)), rows][:, None]
    behind = (scores < own).sum(axis=1) + ((scores == own).sum(axis=1) - 1) / 2
    return behind / max(scores.shape[1] - 1, 1)

