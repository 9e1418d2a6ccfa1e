"""`Reading`: one line about one metric, in the reader's terms: who is ahead, by how much, does it mean anything?

The difference of two methods is taken query by query and its mean bootstrapped over queries: both answered the
same ones, so that two intervals may overlap and the methods differ all the same, and the other way round.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from whence.report.content import ReportContent
from whence.report.wording import show_metric
from whence.tasks.interval import Estimate, bootstrap_mean

READ = (("auprc", "Whole ranking"), ("acc", "Top hit"))


@dataclass(frozen=True)
class Standing:
    """A method's estimate, and of how many settings it is the best."""

    label: str
    estimate: Estimate
    baseline: bool
    among: int


@dataclass(frozen=True)
class Reading:
    """What one metric says.

    Attributes:
        subject: what the metric looks at; heading: its name.
        first: the method with the highest mean. second: the best of the other kind (a baseline where `first` is
            none, and the other way round), None where there is none.
        lead: mean over queries of `first` minus `second`.
        verdict: `ahead` where the lead's interval is above 0; `level` where the means are equal; else `unclear`.
        headline: the method that is shown first, None where it is one of the two.
        chance: a random ranking's expectation; at_chance: whether the best interval includes it.
    """

    subject: str
    heading: str
    first: Standing
    second: Standing | None
    lead: Estimate | None
    verdict: Literal["ahead", "level", "unclear"] | None
    headline: Standing | None
    chance: float
    at_chance: bool


def readings(content: ReportContent) -> list[Reading]:
    """A line on the whole ranking and one on its top, or on the first metric where neither was measured."""
    table = content.metrics
    if table is None:
        return []
    chosen = [pair for pair in READ if pair[0] in table.metrics] or [(table.metrics[0], "Measured")]
    read = [_reading(content, metric, subject) for metric, subject in chosen]
    return [reading for reading in read if reading is not None]


def _reading(content: ReportContent, metric: str, subject: str) -> Reading | None:
    assert content.metrics is not None
    best = [standing for baseline in (True, False)
            if (standing := _best(content, metric, baseline)) is not None]
    if not best:
        return None
    first = max(best, key=lambda standing: standing.estimate.value)
    second = next((standing for standing in best if standing is not first), None)
    lead = None if second is None else _lead(content, metric, first, second)
    chance = content.metrics.chance[metric]
    named = {standing.label for standing in best}
    own = content.metrics.rows.get(content.headline, {}).get(metric)
    shown = own is not None and own.n > 0 and content.headline not in named
    headline = Standing(content.headline, own, content.headline in content.baselines, 1) if shown and own else None
    return Reading(subject, show_metric(metric), first, second, lead, _verdict(lead), headline, chance,
                   first.estimate.low <= chance)


def _best(content: ReportContent, metric: str, baseline: bool) -> Standing | None:
    assert content.metrics is not None
    scored = {label: row[metric] for label, row in content.metrics.rows.items()
              if (label in content.baselines) == baseline and row[metric].n > 0}
    if not scored:
        return None
    defaults = {family.default for family in content.families}
    label = max(scored, key=lambda label: (scored[label].value, label in defaults))
    return Standing(label, scored[label], baseline, len(scored))


def _lead(content: ReportContent, metric: str, first: Standing, second: Standing) -> Estimate:
    assert content.metrics is not None
    per_query = [content.metrics.per_query[standing.label][metric][0] for standing in (first, second)]
    return bootstrap_mean(per_query[0] - per_query[1], level=content.metrics.level)


def _verdict(lead: Estimate | None) -> Literal["ahead", "level", "unclear"] | None:
    if lead is None:
        return None
    if lead.value == 0:
        return "level"
    return "ahead" if lead.low > 0 else "unclear"
