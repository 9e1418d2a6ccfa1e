"""The nudge test: weigh some rows a little more, let the model respond, and look whether the scores foretold it.

Groups of rows: those that the scores put first and last for some queries, and random ones. For each group the proximal
objective is minimised for a few steps (`whence.truth.proximal`) with one more copy of every row of it, and every query
is measured and answered again:

    foretold[m, q] = sum over the rows j of group m of copies_j score[q, j]       observed[m, q] = f_q after - before

That is the dial `nudge test`: the rank correlation over groups, query by query, and the slope. The other dial,
`behaviour`, comes of a few stronger pushes, against the answer that stands: where the measurement moved far enough to
matter, did the greedy answer change? A change of parameters is not a change of behaviour (Li et al. 2024, arXiv
2409.19998).

Shapes: M groups, Q queries, N rows.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import beta

from whence.base.errors import WhenceError
from whence.base.progress import track
from whence.data.examples import Examples
from whence.measure.measurement import Measurement
from whence.sweep.sweep import sweep
from whence.trust.dial import Dial, Level, Reading, clearly
from whence.truth.proximal import Nudge, Proximal
from whence.truth.resample import Draws, affordable, estimate, fisher_interval

GROUPS, FEWEST = 24, 8
PUSHES, PUSH = 6, 3.0  # how many, and how far they are foretold to go, in nats
LIMIT = 0.5  # rank correlation: believed where the whole interval is above
SIZES = (1 / 3, 3)  # of the slope, within which sizes agree too
LEFT = 0.3  # of the objective's gradient: where more is left, a nudge says nothing
FAR = 0.7  # nats: a response twice as likely, or half


@dataclass(frozen=True)
class Nudged:
    """What nudges did.

    Attributes:
        nudges: the groups.
        foretold: what the scores said.
        observed: change of each query's measurement.
        answered: whether the greedy answer was the response, before any nudge.
        changed: whether a nudge changed how many counted tokens are the greedy choice.
        left: of the objective's gradient, relative, median over groups: 0 is the minimum.
        unit: of the measurement.
    """

    nudges: tuple[Nudge, ...]
    foretold: Float[np.ndarray, "M Q"]
    observed: Float[np.ndarray, "M Q"]
    answered: Bool[np.ndarray, " Q"]
    changed: Bool[np.ndarray, "M Q"]
    left: float
    unit: str

    @property
    def slope(self) -> float:
        """Observed over foretold: least squares of each query, median over queries; NaN where nothing was foretold."""
        square = (self.foretold**2).sum(axis=0)
        slopes = np.divide((self.foretold * self.observed).sum(axis=0), square, out=np.full(len(square), np.nan),
                           where=square > 0)
        return float(np.nanmedian(slopes)) if np.isfinite(slopes).any() else float("nan")


def plan_nudges(scores: Float[np.ndarray, "Q N"], groups: int = GROUPS, size: int | None = None,
                copies: float = 1.0, seed: int = 0) -> list[Nudge]:
    """Groups in turn: the top rows of a query, the bottom rows of the next, random rows; each of another query.

    Args:
        size: rows of a group; default a hundredth of all, at least one.
        copies: of every row that are added.
    """
    queries, rows = scores.shape
    size = max(1, rows // 100) if size is None else size
    rng, found = np.random.default_rng(seed), list[Nudge]()
    order = np.argsort(-scores, axis=1, kind="stable")
    turns = [np.resize(rng.permutation(queries), groups) for _ in range(2)]
    for place in range(groups):
        kind, turn = place % 3, place // 3
        if kind == 2:
            found.append(Nudge.of(f"random {turn}", rng.permutation(rows)[:size], copies))
        else:
            q, start = int(turns[kind][turn]), size * (turn // queries)  # further down where queries are few
            ranked = order[q] if kind == 0 else order[q][::-1]
            found.append(Nudge.of(f"{('top', 'bottom')[kind]} of query {q}, from {start}",
                                  ranked[start : start + size], copies))
    return [nudge for nudge in found if len(nudge.rows)]


def plan_pushes(scores: Float[np.ndarray, "Q N"], answered: Bool[np.ndarray, " Q"], pushes: int = PUSHES,
                slope: float = 1.0, seed: int = 0) -> list[Nudge]:
    """Strong nudges against the answer that stands: proponents of a response that is not the greedy answer, opponents
    of one that is, in so many copies that they should move it by `PUSH`.

    Never more copies than would weigh as much as all rows together.

    Args:
        slope: observed over foretold of earlier nudges; 1 where it is not above 0.
    """
    queries, rows = scores.shape
    size, order = max(1, rows // 100), np.argsort(-scores, axis=1, kind="stable")
    found = []
    for q in np.random.default_rng(seed).permutation(queries)[:pushes]:
        chosen = order[q][::-1][:size] if answered[q] else order[q][:size]
        each = abs(float(scores[q, chosen].sum())) * (slope if slope > 0 else 1.0)
        copies = min(PUSH / each, rows / size) if each else rows / size
        found.append(Nudge.of(f"push of query {q}", chosen, copies))
    return found


def nudge(problem: Proximal, nudges: Sequence[Nudge], queries: Examples, scores: Float[np.ndarray, "Q N"],
          measurement: Measurement, *, steps: int = 20, seconds: float = float("inf"), fewest: int = FEWEST) -> Nudged:
    """Make nudges, at least `fewest`, until all are made or the time is over; at least one is asked for.

    Raises:
        WhenceError: scores of another number of queries or rows; a response that is not finite.
    """
    if scores.shape != (len(queries), len(problem.train)):
        raise WhenceError(f"scores of shape {list(scores.shape)}; expected [{len(queries)} queries, "
                          f"{len(problem.train)} rows]")
    before = sweep(problem.model, queries, measurement=measurement, pad_id=problem.pad_id, layout=problem.layout,
                   what="queries before any nudge")
    end, made, observed, wrong, left = time.monotonic() + seconds, list[Nudge](), [], [], []
    for one in track(nudges, "nudges", len(nudges)):
        if len(made) >= fewest and time.monotonic() > end:
            break
        response = problem.respond(one, steps)
        after = problem.measure(response, queries, measurement)
        made.append(one)
        left.append(response.left)
        observed.append(after.values - before.values)
        wrong.append(after.wrong_tokens)
    if not made:
        raise WhenceError("no nudges; expected at least one")
    foretold = np.stack([scores[:, one.rows] @ one.copies for one in made])
    return Nudged(tuple(made), foretold, np.stack(observed), before.matches, np.stack(wrong) != before.wrong_tokens,
                  float(np.median(left)), measurement.unit)


def nudge_dial(nudged: Nudged) -> Dial:
    """Do the scores foretell what nudges do? Mean over queries of the rank correlation over groups.

    Unknown where the objectives were not minimised: then what was observed is not yet the response.
    """
    count, queries = nudged.observed.shape
    draws = Draws.make(count, queries, affordable(count, queries))
    rho = draws.correlation(draws.ranks(nudged.foretold), draws.ranks(nudged.observed))
    found = estimate(draws.mean(rho), queries)
    slope = nudged.slope
    sizes = "sizes agree" if SIZES[0] <= slope <= SIZES[1] else "sizes do not agree: read the order alone"
    still = not nudged.observed.any() or nudged.left > LEFT
    reading = Reading.UNKNOWN if still else clearly(found.low, found.high, LIMIT)
    ends = [fisher_interval(r, count) for r in rho[0]]
    says = ("nothing moved under any nudge" if not nudged.observed.any() else
            f"scores foretell what {count} nudges do with rank correlation {found}; observed is {slope:.2g} x foretold "
            f"({sizes}); {nudged.left:.0%} of the gradient left after the last step"
            f"{': too much for a reading' if nudged.left > LEFT else ''}")
    return Dial("nudge test", "cheap", "response", reading, says, f"an interval above {LIMIT:g}", found.value,
                found.low, found.high, "rank correlation", rho[0],
                tuple(reading if still else clearly(low, high, LIMIT) for low, high in ends))


def too_large(needed: int, free: int) -> Dial:
    """The dial where nudges do not fit in memory."""
    return Dial("nudge test", "cheap", "response", Reading.UNKNOWN,
                f"not made: a nudge takes {needed / 2**30:.1f} GiB beside the model, {free / 2**30:.1f} GiB are free",
                f"an interval above {LIMIT:g}")


def behaviour_dial(moved: Float[np.ndarray, "M Q"], changed: Bool[np.ndarray, "M Q"], unit: str, what: str,
                   level: Level = "cheap") -> Dial:
    """Where the measurement moved by `FAR` or more, did the greedy answer ever change?

    Poor where the 95 % upper bound (Clopper & Pearson 1934) of the share of queries for which it did is below half.

    Args:
        moved: change of the measurement.
        changed: whether more or fewer of the counted tokens are the greedy choice.
        what: that moved it: nudges, or retraining.
    """
    far = np.abs(moved) >= FAR
    readings = tuple(Reading.UNKNOWN if not far[:, q].any() else
                     Reading.GOOD if changed[:, q].any() else Reading.POOR for q in range(moved.shape[1]))
    known = [one for one in readings if one is not Reading.UNKNOWN]
    share, high = float("nan"), 1.0
    if known:
        did = sum(one is Reading.GOOD for one in known)
        share, high = did / len(known), 1.0 if did == len(known) else float(beta.ppf(0.95, did + 1, len(known) - did))
    reading = Reading.POOR if high < 0.5 else Reading.GOOD if share > 0 else Reading.UNKNOWN
    says = (f"no query moved by {FAR:g} {unit}, so nothing is known of the greedy answer" if not known else
            f"{len(known)} of {len(readings)} queries moved by {FAR:g} {unit} or more under {what}; the greedy answer "
            f"of {share:.0%} of them changed with it")
    name = "behaviour" if level == "cheap" else "behaviour, retrained"  # a card may have both
    return Dial(name, level, "sanity", reading, says,
                "the answer of half of them changes, or may", share, unit="share", readings=readings)

