"""The table of a probe run: the mean score of each partition, and how much the order of the words matters.

    mean(partition) = mean over queries of the mean score of the query's probes in it, in the scores' unit
    ratio           = mean over the partitions that keep the order / mean over those that flip it

Interval: percentile bootstrap; probes are drawn anew within each query and partition, so it is about other sentences
of the same kind, not about other facts. Where the flipped probes have no positive mean, the ratio is infinite if those
that keep the order have one, and NaN if not; in resamples likewise, so an upper end of infinity says that no bound was
found, and the share of resamples without a ratio is in the notes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import rich.table
from jaxtyping import Float64

from whence.base.errors import WhenceError
from whence.views.probes import KEPT, TURNED, ProbeSuite
from whence.views.resample import LEVEL, RESAMPLES, bootstrap

Draw = Callable[..., tuple[float, float, float]]  # `bootstrap`, with resamples, level and seed chosen
NO_ORDER = "no partition keeps or none flips the order: there is no ratio"
NOTHING = "neither order has a positive mean score: the ratio is undefined"
UNBOUNDED = "the mean of the flipped probes is not clearly above zero: the ratio has no upper bound"
DROPPED = "{:.1%} of the resamples have no positive mean in either order; the interval is of the others"
SINGLE = "one probe a query: an interval without width is no certainty"


@dataclass(frozen=True)
class Quantity:
    """A number with its interval, of n probes."""

    value: float
    low: float
    high: float
    n: int
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"

    def to_json(self) -> dict[str, Any]:
        """Plain numbers; null where there is none, `Infinity` is null too and its note says so."""
        return {name: x if np.isfinite(x) else None for name, x in
                (("value", self.value), ("low", self.low), ("high", self.high))} | {
            "n": self.n, "notes": list(self.notes)}


@dataclass(frozen=True)
class ProbeTable:
    """Scores of a suite by partition.

    Attributes:
        partitions: mean score of each, in the order of the suite.
        by_query: mean score of each query and partition (NaN where it has none), [queries, partitions].
        ratio: order kept / order flipped, over all queries.
        ratio_by_query: the same for each query.
    """

    unit: str
    queries: tuple[str, ...]
    partitions: dict[str, Quantity]
    by_query: Float64[np.ndarray, "queries partitions"]
    ratio: Quantity
    ratio_by_query: dict[str, Quantity]

    @classmethod
    def of(cls, suite: ProbeSuite, scores: Float64[np.ndarray, "queries probes"], unit: str = "nats", *,
           resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0) -> ProbeTable:
        """From scores of every probe for every query (those of other queries' probes are not looked at).

        Raises:
            WhenceError: scores of another shape, or not finite.
        """
        shape = (len(suite.queries), len(suite.probes))
        if scores.shape != shape or not np.isfinite(scores).all():
            raise WhenceError(f"scores of shape {scores.shape}, {(~np.isfinite(scores)).sum()} of them not finite; "
                              f"expected {shape}, a finite number for each query and probe")
        names = tuple(query.name for query in suite.queries)
        found = tuple(dict.fromkeys(probe.partition for probe in suite.probes))
        cells = {(name, part): scores[q, [i for i, probe in enumerate(suite.probes)
                                          if (probe.query, probe.partition) == (name, part)]]
                 for q, name in enumerate(names) for part in found}
        draw = partial(bootstrap, resamples=resamples, level=level, seed=seed)
        means = {part: _mean([cells[name, part] for name in names if len(cells[name, part])], draw) for part in found}
        by_query = np.array([[cells[name, part].mean() if len(cells[name, part]) else np.nan for part in found]
                             for name in names])

        def ratio(of: Sequence[str]) -> Quantity:
            kept, turned = ([np.concatenate([cells[name, part] for part in parts if part in found] or [np.zeros(0)])
                             for name in of] for parts in (KEPT, TURNED))
            return _ratio(kept, turned, draw)

        return cls(unit, names, means, by_query, ratio(names), {name: ratio([name]) for name in names})

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {"unit": self.unit, "partitions": {name: part.to_json() for name, part in self.partitions.items()},
                "ratio_kept_flipped": self.ratio.to_json(),
                "ratio_by_query": {name: ratio.to_json() for name, ratio in self.ratio_by_query.items()}}

    def to_rich(self) -> rich.table.Table:
        """A table for the terminal: partitions, then the ratio."""
        table = rich.table.Table(title=f"probes: mean score in {self.unit}", title_justify="left")
        for name in ("partition", "probes", "mean [interval]", *self.queries):
            table.add_column(name, justify="left" if name == "partition" else "right")
        for column, (name, part) in enumerate(self.partitions.items()):
            each = (f"{x:.3g}" if np.isfinite(x) else "-" for x in self.by_query[:, column])
            table.add_row(name, str(part.n), str(part), *each)
        table.add_section()
        table.add_row("order kept / flipped", str(self.ratio.n), str(self.ratio),
                      *(f"{self.ratio_by_query[name].value:.3g}" for name in self.queries))
        return table


def _mean(samples: Sequence[np.ndarray], draw: Draw) -> Quantity:
    """Mean over samples of their means."""
    low, high, _ = draw(samples, _mean_of_means)
    notes = (SINGLE,) if max(map(len, samples)) == 1 else ()
    return Quantity(float(np.mean([sample.mean() for sample in samples])), low, high, sum(map(len, samples)), notes)


def _ratio(kept: Sequence[np.ndarray], turned: Sequence[np.ndarray], draw: Draw) -> Quantity:
    """Mean of means of `kept` over that of `turned`, over the queries that have both."""
    both = [(k, t) for k, t in zip(kept, turned, strict=True) if len(k) and len(t)]
    if not both:
        return Quantity(np.nan, np.nan, np.nan, 0, (NO_ORDER,))
    samples = [k for k, _ in both] + [t for _, t in both]

    def ratios(drawn: Sequence[np.ndarray]) -> np.ndarray:
        above, below = _mean_of_means(drawn[: len(both)]), _mean_of_means(drawn[len(both) :])
        without = np.where(above > 0, np.inf, np.nan)
        return np.divide(above, below, out=without, where=below > 0)

    value = float(ratios([sample[None] for sample in samples])[0])
    low, high, undefined = draw(samples, ratios)
    notes = [NOTHING] if np.isnan(value) else []
    notes += [UNBOUNDED] if np.isinf(high) else []
    notes += [DROPPED.format(undefined)] if undefined else []
    notes += [SINGLE] if max(map(len, samples)) == 1 else []
    return Quantity(value, low, high, sum(map(len, samples)), tuple(notes))


def _mean_of_means(drawn: Sequence[np.ndarray]) -> np.ndarray:
    """[resamples], from [resamples, n_k] of each sample."""
    return np.mean([sample.mean(axis=1) for sample in drawn], axis=0)
