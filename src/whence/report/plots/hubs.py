"""Does one training row win every query?"""

from __future__ import annotations

from scipy.stats import binomtest

from whence.report.content import ReportContent
from whence.report.plots.plot import ROW, Plot, bar, family_of, method_rows, new_figure, standing_for
from whence.report.svg import INK, inline, style
from whence.tasks.hubs import hub_facts
from whence.tasks.interval import Estimate


def hubs(content: ReportContent) -> Plot:
    """For each family, the share of queries whose top row is the most common top row, and how many rows are one."""
    n_queries = len(content.queries)
    standing = standing_for(content)
    with style("hubs"):
        figure = new_figure(3.2, ROW * len(standing))
        ax = figure.subplots()
        for y, label in enumerate(standing.values()):
            facts = hub_facts(content.scores[label].values)
            ends = binomtest(round(facts.top1_share * n_queries), n_queries).proportion_ci(method="wilson")
            share = Estimate(100 * facts.top1_share, 100 * ends.low, 100 * ends.high, n_queries)
            hollow = label in content.baselines
            bar(ax, share, y, INK["muted"] if hollow else INK["pos"], hollow=hollow)
            ax.annotate(f"{facts.distinct_top1:,}", (1.02, y), xycoords=("axes fraction", "data"), va="center",
                        fontsize=9.5, color=INK["muted"])
        ax.annotate("distinct", (1.02, 1), (0, 5), xycoords="axes fraction", textcoords="offset points",
                    fontsize=9.5, color=INK["muted"])
        ax.set_xlim(-3, 103)
        ax.set_xlabel("queries with that row on top (%)")
        ax.grid(axis="x")
        method_rows(ax, list(standing), family_of(content, content.headline))
        svg = inline(figure, "How often the most common top training row is on top, for each method")
    caption = (f"Dot: share of the {n_queries:,} queries whose top row is the method's most common top row, with "
               "Wilson's 95 % interval. Near 100 % it is a hub: one row wins whatever is asked. Distinct: rows "
               "that are on top at least once. Methods with a damping stand at their default; equal scores go "
               "in row order.")
    return Plot("Does one training row win every query?", caption, svg, wide=False)
