"""What the headline's scores look like, for rows of the query's own group and for the others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from whence.report.content import ReportContent
from whence.report.plots.plot import ROW, Plot, new_figure
from whence.report.svg import INK, inline, style
from whence.report.wording import show_number
from whence.tasks.interval import bootstrap_mean
from whence.tasks.labels import relevance
from whence.tasks.metrics import judge_relevance, roc_auc


def distribution(content: ReportContent) -> Plot:
    """The headline's scores on an asinh axis (linear around 0, logarithmic far out: nothing is cut off)."""
    scores = content.scores[content.headline]
    labelled = _labelled(content)
    sets = {"all rows": (np.ones(scores.values.shape, dtype=bool), INK["pos"])}
    if labelled is not None:
        same = np.zeros(scores.values.shape, dtype=bool)
        other = same.copy()
        same[labelled.cells], other[labelled.cells] = labelled.same, ~labelled.same
        kinds = {"same group": (same, INK["same"]), "other groups": (other, INK["muted"])}
        sets = {name: (mask, ink) for name, (mask, ink) in kinds.items() if mask.any()}
    sizes = np.abs(scores.values[scores.values != 0])
    width = float(np.median(sizes)) if sizes.size else 1.0
    low, high = (np.arcsinh(edge / width) for edge in (scores.values.min(), scores.values.max()))
    edges = np.sinh(np.linspace(low, high if high > low else low + 1, 61)) * width
    with style("distribution"):
        figure = new_figure(5.3, min(4.5, max(2.8, ROW * len(content.families))))
        ax = figure.subplots()
        ax.set_xscale("asinh", linear_width=width)
        lines = []
        for place, (name, (mask, ink)) in enumerate(sets.items()):
            drawn = scores.values[mask]
            ax.hist(drawn, edges.tolist(), weights=np.full(drawn.size, 100 / drawn.size), color=ink,
                    alpha=0.35, histtype="stepfilled", label=f"{name} (n = {drawn.size:,})")
            middle = bootstrap_mean(np.array([np.median(values[chosen]) if chosen.any() else np.nan
                                              for values, chosen in zip(scores.values, mask, strict=True)]))
            height = 1.03 + 0.05 * place
            ax.plot([middle.low, middle.high], [height, height], color=ink, linewidth=1.6, clip_on=False,
                    transform=ax.get_xaxis_transform())
            ax.plot(middle.value, height, "o", color=ink, markersize=5, clip_on=False,
                    transform=ax.get_xaxis_transform())
            lines.append(f"{name} {show_number(middle.value)} "
                         f"[{show_number(middle.low)}, {show_number(middle.high)}]")
        ax.axvline(0, color=INK["line"], linewidth=1, zorder=0)
        ax.set_xlabel(f"score ({scores.unit}; asinh scale)")
        ax.set_ylabel("share of scores (%)")
        ax.grid(axis="y")
        ax.set_axisbelow(True)
        ticks = _spread(scores.values, width)
        ax.set_xticks(ticks, [show_number(tick) for tick in ticks])
        ax.set_xticks([], minor=True)
        ax.set_ylim(0, 1.28 * ax.get_ylim()[1])
        ax.legend(loc="upper left", fontsize=10)
        svg = inline(figure, "Distribution of the headline's scores")
    caption = (f"{content.headline}. Dots above: median score, mean over queries with 95 % interval: "
               f"{'; '.join(lines)}.")
    if labelled is not None:
        apart = bootstrap_mean(roc_auc(judge_relevance(scores.values[labelled.cells], labelled.same)))
        if apart.n:
            caption += (f" A row of the query's own group outscores another row with probability {apart} "
                        f"({apart.n:,} queries; .500 = no difference).")
    return Plot("What do the scores look like?", caption, svg, wide=False)


@dataclass(frozen=True)
class _Labelled:
    """The queries and training rows that have a group (`cells` picks them from [Q, N]), and which pairs share it."""

    cells: tuple[np.ndarray, ...]
    same: np.ndarray


def _labelled(content: ReportContent) -> _Labelled | None:
    groups = [{i: group for i, group in enumerate(examples.groups) if group is not None}
              for examples in (content.queries, content.train)]
    if not all(groups):
        return None
    of_queries, of_train = groups
    return _Labelled(np.ix_(list(of_queries), list(of_train)),
                     relevance(list(of_train.values()), list(of_queries.values())))


def _spread(values: np.ndarray, width: float) -> list[float]:
    """Up to seven round ticks, evenly spread on the asinh axis, 0 among them."""
    ends = np.arcsinh(np.array([min(values.min(), 0), max(values.max(), 0)]) / width)
    raw = np.sinh(np.linspace(-1, 1, 7) * np.abs(ends).max()) * width
    kept = raw[(raw >= np.sinh(ends[0] - 0.01) * width) & (raw <= np.sinh(ends[1] + 0.01) * width)]
    return sorted({float(f"{tick:.1g}") + 0.0 for tick in kept if abs(tick) > 1e-9 * width} | {0.0})
