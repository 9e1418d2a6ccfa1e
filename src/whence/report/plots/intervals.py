"""How good is each method: estimate and interval, a row a family."""

from __future__ import annotations

from whence.report.content import ReportContent
from whence.report.plots.plot import (
    ROW,
    SHOWN_METRICS,
    Plot,
    bar,
    chance_line,
    family_of,
    method_rows,
    new_figure,
    shown_metrics,
)
from whence.report.svg import INK, inline, style
from whence.report.wording import show_metric, show_number
from whence.tasks.interval import Estimate

BELOW = 0.3  # of a row: where the best damping stands under the default one


def intervals(content: ReportContent) -> Plot | None:
    """Dot and interval of up to three metrics for each family, with the line of chance.

    A family with several dampings shows its default and, where another has a higher mean, that one below it.
    """
    table, metrics = content.metrics, shown_metrics(content)
    if table is None:
        return None
    measured = [family for family in content.families if family.default in table.rows]
    with style("intervals"):
        figure = new_figure(10.2, ROW * 1.15 * len(measured))
        axes = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
        for ax, metric in zip(axes, metrics, strict=True):
            for y, family in enumerate(measured):
                hollow = family.default in content.baselines
                own = table.rows[family.default][metric]
                best = _best([table.rows[label][metric] for label in family.members if label in table.rows])
                if own.n:
                    bar(ax, own, y, INK["muted"] if hollow else INK["pos"], hollow=hollow)
                if best is not None and not best.value <= own.value:
                    bar(ax, best, y + BELOW, INK["same"], marker="D", hollow=True)
            chance_line(ax, table.chance[metric])
            ax.set_title(show_metric(metric), pad=16)
            if metric in SHOWN_METRICS:
                ax.set_xlabel("share, 0 to 1")
                ax.set_xlim(-0.03, 1.03)
                ax.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", ".25", ".5", ".75", "1"])
            ax.grid(axis="x")
        method_rows(axes[0], [family.name for family in measured], family_of(content, content.headline))
        svg = inline(figure, "Metrics of each method with intervals")
    n = max(estimate.n for row in table.rows.values() for estimate in row.values())
    caption = (f"Dot: estimate; bar: {100 * table.level:.0f} % interval (n = {n:,} at most). "
               "Grey and hollow: trivial baseline.")
    if any(family.dampings for family in measured):
        caption += (f" Methods with a damping stand at their default, {show_number(content.default_damping)} × mean "
                    "eigenvalue (or the nearest there is). Green diamond: the damping with the highest mean, where "
                    "that is another; it was picked on these same queries, so it flatters.")
    return Plot("How good is each method?", caption, svg, wide=True)


def _best(estimates: list[Estimate]) -> Estimate | None:
    return max((estimate for estimate in estimates if estimate.n), key=lambda e: e.value, default=None)
