"""What the damping does: metric against damping, a small panel for each family and metric."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from whence.report.content import ReportContent
from whence.report.family import Family
from whence.report.plots.plot import CHANCE_DASH, SHOWN_METRICS, Plot, new_figure, shown_metrics
from whence.report.svg import INK, inline, style
from whence.report.wording import show_metric, show_number
from whence.tasks.table import MetricTable

PANEL = (10.4, 1.75)  # inches: width of a row of panels, height of one
APART = 0.078  # smallest distance between two names beside a panel, as a share of its height


def dampings(content: ReportContent) -> Plot | None:
    """Curves with their intervals; chance and the baselines as lines across. None where no damping was varied."""
    table, metrics = content.metrics, shown_metrics(content)
    if table is None:
        return None
    varied = [family for family in content.families
              if len(family.dampings) > 1 and set(family.members) <= set(table.rows)]
    if not varied:
        return None
    with style("dampings"):
        figure = new_figure(max(2.6, PANEL[0] * min(1, len(varied) / 5)), PANEL[1] * len(metrics))
        figure.subplots_adjust(wspace=0.08, hspace=0.14)
        panels = figure.subplots(len(metrics), len(varied), sharex=True, sharey="row", squeeze=False)
        for axes, metric in zip(panels, metrics, strict=True):
            for ax, family in zip(axes, varied, strict=True):
                _panel(ax, table, family, metric, content)
            axes[0].set_ylabel(show_metric(metric))
            _name_lines(axes[-1], table, metric, content)
        for ax, family in zip(panels[0], varied, strict=True):
            ax.set_title(family.name, fontsize=10.5)
        for ax in panels[-1]:
            ax.tick_params(axis="x", labelbottom=True)
        panels[-1][len(varied) // 2].set_xlabel("damping (× mean eigenvalue)")
        svg = inline(figure, "Metrics of each method against its damping")
    caption = (f"Line and band: mean and {100 * table.level:.0f} % interval. Ring: the default damping, "
               f"{show_number(content.default_damping)}. Grey lines: baselines; dashed: chance. A flat line "
               "means that the damping decides nothing.")
    return Plot("What does the damping change?", caption, svg, wide=True)


def _panel(ax: Axes, table: MetricTable, family: Family, metric: str, content: ReportContent) -> None:
    for label in content.baselines:
        if label in table.rows and table.rows[label][metric].n:
            ax.axhline(table.rows[label][metric].value, color=INK["muted"], linewidth=0.8, alpha=0.45, zorder=0)
    ax.axhline(table.chance[metric], color=INK["neg"], linewidth=1.2, linestyle=CHANCE_DASH, zorder=1)
    estimates = [table.rows[label][metric] for label in family.members]
    low, value, high = (np.array([getattr(e, part) for e in estimates]) for part in ("low", "value", "high"))
    ax.fill_between(family.dampings, low, high, color=INK["pos"], alpha=0.22, linewidth=0)
    ax.plot(family.dampings, value, "-o", color=INK["pos"], linewidth=1.6, markersize=3.5)
    at = family.members.index(family.default)
    ax.plot(family.dampings[at], value[at], "o", color=INK["ink"], markersize=8.5, markeredgewidth=1.3,
            fillstyle="none")
    ax.set_xscale("log")
    ticks = _ticks(family.dampings)
    ax.set_xticks(ticks, [show_number(tick) for tick in ticks])
    ax.set_xticks([], minor=True)
    ax.set_xlim(min(family.dampings) / 2.2, max(family.dampings) * 2.2)
    if metric in SHOWN_METRICS:
        ax.set_ylim(-0.03, 1.06)
        ax.set_yticks([0, 0.5, 1], ["0", ".5", "1"])
    ax.tick_params(labelsize=9.5)


def _ticks(dampings: tuple[float, ...]) -> list[float]:
    """At most five of the dampings, the ends among them."""
    kept = np.linspace(0, len(dampings) - 1, min(5, len(dampings))).round().astype(int)
    return [dampings[i] for i in kept]


def _name_lines(ax: Axes, table: MetricTable, metric: str, content: ReportContent) -> None:
    """Names of the lines across, to the right of the last panel, moved apart where they would touch."""
    lines = {label: table.rows[label][metric].value for label in content.baselines
             if label in table.rows and table.rows[label][metric].n}
    named = sorted([*((value, label, INK["muted"]) for label, value in lines.items()),
                    (table.chance[metric], "chance", INK["neg"])])
    bottom, top = ax.get_ylim()
    at = [(value - bottom) / (top - bottom) for value, _, _ in named]
    for (value, label, colour), y in zip(named, _apart(at), strict=True):
        ax.annotate(label, (1.0, value), (1.07, y), xycoords=("axes fraction", "data"), textcoords="axes fraction",
                    va="center", fontsize=8.5, color=colour, annotation_clip=False,
                    arrowprops={"arrowstyle": "-", "color": colour, "linewidth": 0.6, "alpha": 0.6,
                                "shrinkA": 0, "shrinkB": 0, "relpos": (0, 0.5)})


def _apart(at: list[float]) -> list[float]:
    """Ascending places, moved as little as a pass up and a pass down take to be `APART` apart and inside."""
    gap = min(APART, 1 / max(len(at) - 1, 1))
    placed: list[float] = []
    for i, y in enumerate(at):
        placed.append(max(y, placed[-1] + gap) if i else max(y, 0.0))
    for i in reversed(range(len(placed))):
        highest = 1.0 - gap * (len(placed) - 1 - i)
        placed[i] = min(placed[i], highest)
    return placed
