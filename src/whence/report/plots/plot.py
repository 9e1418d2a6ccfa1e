"""`Plot`, and what several plots share: sizes, a row a method, the line of chance, an estimate's bar."""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from whence.report.content import ReportContent
from whence.report.svg import INK
from whence.tasks.interval import Estimate, short

ROW = 0.27  # inches; the page shows 96 px an inch. Figures are sized by their axes: labels come on top
SHOWN_METRICS = ("acc", "cover", "auprc")  # all are shares, 0 to 1
CHANCE_DASH = (0, (4, 3))


@dataclass(frozen=True)
class Plot:
    """A heading, what the plot says in words (plain text), the `<svg>`, whether it takes the full width."""

    title: str
    caption: str
    svg: str
    wide: bool


def new_figure(width: float, height: float) -> Figure:
    """A figure whose axes take `width` x `height` inches."""
    figure = Figure(figsize=(width, height))
    figure.subplots_adjust(left=0, right=1, bottom=0, top=1, wspace=0.08)
    return figure


def shown_metrics(content: ReportContent) -> list[str]:
    """Up to three metrics that a plot has room for."""
    present = content.metrics.metrics if content.metrics else ()
    return ([name for name in SHOWN_METRICS if name in present] or list(present))[:3]


def standing_for(content: ReportContent) -> dict[str, str]:
    """Name of each family -> the method that stands for it."""
    return {family.name: family.default for family in content.families}


def method_rows(ax: Axes, names: list[str], bold: str | None) -> None:
    """One row a method, the first on top, one of them in bold."""
    ax.set_yticks(range(len(names)), names, fontsize=10)
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.tick_params(axis="y", length=0)
    if bold in names:
        ax.get_yticklabels()[names.index(bold)].set_fontweight("bold")


def bar(ax: Axes, estimate: Estimate, y: float | int, colour: str, marker: str = "o", hollow: bool = False) -> None:
    """A marker at the value and its interval, both horizontal at `y`."""
    ax.plot([estimate.low, estimate.high], [y, y], color=colour, linewidth=1.6)
    ax.plot(estimate.value, y, marker, color=colour, markersize=5.5, markeredgewidth=1.4,
            fillstyle="none" if hollow else "full")


def chance_line(ax: Axes, chance: float) -> None:
    """The expectation of a random ranking, named above the axes."""
    ax.axvline(chance, color=INK["neg"], linewidth=1.2, linestyle=CHANCE_DASH, zorder=0)
    ax.annotate(f"chance {short(chance)}", (chance, 1), (3, 1), xycoords=("data", "axes fraction"),
                textcoords="offset points", color=INK["neg"], fontsize=9)


def family_of(content: ReportContent, label: str) -> str:
    """Name of the family a method belongs to."""
    return next(family.name for family in content.families if label in family.members)
