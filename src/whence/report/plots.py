"""The report's four plots: how good each method is, what its scores look like, who agrees, who has a hub."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from whence.report.content import ReportContent
from whence.report.statistics import (
    agreement,
    bootstrap_mean,
    most_common_firsts,
    same_group,
    separation,
    wilson,
)
from whence.report.svg import INK, inline, style
from whence.report.wording import show_metric, show_number

ROW = 0.235  # inches; the page shows 96 px an inch. Figures are sized by their axes: labels come on top
SHOWN_METRICS = ("acc", "cover", "auprc")


@dataclass(frozen=True)
class Plot:
    """A heading, what the plot says in words (plain text), the `<svg>`, whether it takes the full width."""

    title: str
    caption: str
    svg: str
    wide: bool


def draw_all(content: ReportContent) -> list[Plot]:
    """Every plot that the content has the data for."""
    drawn = (intervals(content), distribution(content), hubs(content), agreements(content))
    return [plot for plot in drawn if plot is not None]


def intervals(content: ReportContent) -> Plot | None:
    """Dot and interval of up to three metrics for each method, with the line of chance."""
    if not content.metrics:
        return None
    present = list(dict.fromkeys(metric for row in content.metrics.values() for metric in row))
    metrics = ([name for name in SHOWN_METRICS if name in present] or present)[:3]
    labels = list(content.metrics)
    with style("intervals"):
        figure = _figure(10.4, ROW * len(labels))
        axes = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for ax, metric in zip(axes, metrics, strict=True):
            for y, label in enumerate(labels):
                estimate = content.metrics[label].get(metric)
                if estimate is not None and np.isfinite(estimate.value):
                    hollow = label in content.baselines
                    colour = INK["muted"] if hollow else INK["pos"]
                    ax.plot([estimate.low, estimate.high], [y, y], color=colour, linewidth=1.6)
                    ax.plot(estimate.value, y, "o", color=colour, markersize=5.5, markeredgewidth=1.4,
                            fillstyle="none" if hollow else "full")
            chance = (content.chance or {}).get(metric)
            if chance is not None:
                ax.axvline(chance, color=INK["neg"], linewidth=1.2, linestyle=(0, (4, 3)), zorder=0)
                ax.annotate(f"chance {show_number(round(chance, 3))}", (chance, 1), (3, 1),
                            xycoords=("data", "axes fraction"), textcoords="offset points",
                            color=INK["neg"], fontsize=9)
            ax.set_title(show_metric(metric), pad=16)
            ax.set_xlabel(show_metric(metric))
            if metric in SHOWN_METRICS:
                ax.set_xlabel(f"{show_metric(metric)} (share, 0 to 1)")
                ax.set_xlim(-0.03, 1.03)
                ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "0.25", "0.5", "0.75", "1"])
            ax.grid(axis="x")
        _method_rows(axes[0], labels, content.headline)
        svg = inline(figure, "Metrics of each method with intervals")
    n = max(estimate.n for row in content.metrics.values() for estimate in row.values())
    caption = f"Dot: estimate. Bar: 95 % interval (n = {n:,} at most). Hollow and grey: trivial baseline."
    return Plot("How good is each method?", caption, svg, wide=True)


def distribution(content: ReportContent) -> Plot:
    """The headline's scores on an asinh axis (linear around 0, logarithmic far out: nothing is cut off)."""
    scores = content.scores[content.headline]
    same, labelled = same_group(content.train, content.queries)
    sets = {"same group": (same, INK["same"]), "other groups": (labelled & ~same, INK["muted"])}
    sets = {name: (mask, ink) for name, (mask, ink) in sets.items() if mask.any()}
    sets = sets or {"all rows": (np.ones_like(same), INK["pos"])}
    sizes = np.abs(scores.values[scores.values != 0])
    width = float(np.median(sizes)) if sizes.size else 1.0
    low, high = (np.arcsinh(edge / width) for edge in (scores.values.min(), scores.values.max()))
    edges = np.sinh(np.linspace(low, high if high > low else low + 1, 61)) * width
    with style("distribution"):
        figure = _figure(5.3, min(4.5, max(2.8, ROW * len(content.scores))))
        ax = figure.subplots()
        ax.set_xscale("asinh", linear_width=width)
        lines = []
        for place, (name, (mask, ink)) in enumerate(sets.items()):
            values = scores.values[mask]
            ax.hist(values, edges.tolist(), weights=np.full(values.size, 100 / values.size), color=ink,
                    alpha=0.35, histtype="stepfilled", label=f"{name} (n = {values.size:,})")
            medians = [np.median(v[m]) for v, m in zip(scores.values, mask, strict=True) if m.any()]
            middle = bootstrap_mean(np.array(medians))
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
    apart = bootstrap_mean(separation(scores.values, same, labelled))
    if apart.n:
        caption += (f" A row of the query's own group outscores another row with probability "
                    f"{apart.value:.3f} [{apart.low:.3f}, {apart.high:.3f}] "
                    f"({apart.n:,} queries; 0.5 = no difference).")
    return Plot("What do the scores look like?", caption, svg, wide=False)


def hubs(content: ReportContent) -> Plot:
    """For each method, the share of queries for which its most common top-1 training row is the top-1."""
    labels = list(content.scores)
    n_queries = len(content.queries)
    with style("hubs"):
        figure = _figure(3.0, ROW * len(labels))
        ax = figure.subplots()
        for y, label in enumerate(labels):
            counts = most_common_firsts(content.scores[label].values)
            share = wilson(counts[0] if counts else 0, n_queries)
            for count in counts[1:4]:
                ax.plot(100 * count / n_queries, y, "|", color=INK["muted"], markersize=6)
            ax.plot([100 * share.low, 100 * share.high], [y, y], color=INK["pos"], linewidth=1.6)
            ax.plot(100 * share.value, y, "o", color=INK["pos"], markersize=5.5)
            ax.annotate(f"{len(counts):,}", (1.02, y), xycoords=("axes fraction", "data"), va="center",
                        fontsize=9, color=INK["muted"])
        ax.annotate("distinct", (1.02, 1), (0, 5), xycoords="axes fraction", textcoords="offset points",
                    fontsize=9, color=INK["muted"])
        ax.set_xlim(-3, 103)
        ax.set_xlabel("queries whose top-1 is that row (%)")
        ax.grid(axis="x")
        _method_rows(ax, labels, content.headline)
        svg = inline(figure, "How often the most common training row is top-1, for each method")
    caption = (f"Dot: share of the {n_queries:,} queries whose highest score belongs to the method's most "
               "common top-1 row, with Wilson's 95 % interval; ticks: the next three rows. A share near "
               "100 % is a hub: one row wins whatever is asked. Distinct: rows that are top-1 at least once; "
               "queries with a tie at the top have none.")
    return Plot("Does one training row win every query?", caption, svg, wide=False)


def agreements(content: ReportContent) -> Plot | None:
    """Heat map of the mean Spearman correlation between methods (lower triangle; the upper is the same)."""
    labels = list(content.scores)
    if len(labels) < 2:
        return None
    mean, half = agreement([scores.values for scores in content.scores.values()])
    side = min(0.55, 10.4 / len(labels))
    with style("agreement"):
        figure = _figure(side * (len(labels) - 1), ROW * (len(labels) - 1))
        ax = figure.subplots()
        for i, j in itertools.combinations(range(len(labels))[::-1], 2):
            rho = mean[i, j]
            if np.isfinite(rho):
                ax.add_patch(Rectangle((j - 0.48, i - 0.47), 0.96, 0.94, linewidth=0, alpha=0.55 * abs(rho),
                                       facecolor=INK["pos"] if rho > 0 else INK["neg"]))
            text = f"{round(rho, 2) + 0:.2f}" if np.isfinite(rho) else "–"  # + 0: no negative zero
            ax.text(j, i, text.replace("-", "−").replace("0.", "."), ha="center", va="center", fontsize=8.5)
        _method_rows(ax, labels, content.headline)
        ax.set_xticks(range(len(labels) - 1), labels[:-1], rotation=40, ha="right", rotation_mode="anchor",
                      color=INK["ink"])
        ax.set_ylim(len(labels) - 0.5, 0.5)
        ax.set_xlim(-0.5, len(labels) - 1.5)
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0, labelsize=9)
        svg = inline(figure, "Mean Spearman correlation between methods")
    widest = np.nanmax(half) if np.isfinite(half).any() else np.nan
    caption = (f"Spearman's rank correlation of the scores of all {len(content.train):,} training rows, mean "
               f"over {len(content.queries):,} queries; the widest 95 % interval is "
               f"±{show_number(round(widest, 3))}. Blue: same order; orange: reversed; – : a method that "
               "gives every row the same score.")
    return Plot("Which methods agree?", caption, svg, wide=True)


def _figure(width: float, height: float) -> Figure:
    """A figure whose axes take `width` x `height` inches."""
    figure = Figure(figsize=(width, height))
    figure.subplots_adjust(left=0, right=1, bottom=0, top=1, wspace=0.08)
    return figure


def _spread(values: np.ndarray, width: float) -> list[float]:
    """Up to seven round ticks, evenly spread on the asinh axis, 0 among them."""
    ends = np.arcsinh(np.array([min(values.min(), 0), max(values.max(), 0)]) / width)
    raw = np.sinh(np.linspace(-1, 1, 7) * np.abs(ends).max()) * width
    kept = raw[(raw >= np.sinh(ends[0] - 0.01) * width) & (raw <= np.sinh(ends[1] + 0.01) * width)]
    return sorted({float(f"{tick:.1g}") + 0.0 for tick in kept if abs(tick) > 1e-9 * width} | {0.0})


def _method_rows(ax: Axes, labels: list[str], headline: str) -> None:
    """One row a method, the first on top, the headline in bold."""
    ax.set_yticks(range(len(labels)), labels, fontsize=10)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    if headline in labels:
        ax.get_yticklabels()[labels.index(headline)].set_fontweight("bold")
