"""Which methods agree: rank correlations between families."""

from __future__ import annotations

import itertools

from matplotlib.patches import Rectangle

from whence.report.content import ReportContent
from whence.report.plots.plot import ROW, Plot, family_of, method_rows, new_figure, standing_for
from whence.report.svg import INK, inline, style
from whence.report.wording import show_number
from whence.tasks.agreement import agreement_matrix
from whence.tasks.interval import short


def agreements(content: ReportContent) -> Plot | None:
    """Heat map of the mean Spearman correlation between families (lower triangle; the upper is the same)."""
    standing = standing_for(content)
    names = list(standing)
    if len(names) < 2:
        return None
    matrix = agreement_matrix({name: content.scores[label] for name, label in standing.items()})
    pairs = list(itertools.combinations(range(len(names)), 2))
    rho = {(i, j): matrix[names[i]][names[j]].spearman for j, i in pairs}
    with style("agreement"):
        side = min(0.62, 9.0 / len(names))
        figure = new_figure(side * (len(names) - 1), ROW * 1.1 * (len(names) - 1))
        ax = figure.subplots()
        for (i, j), estimate in rho.items():
            if estimate.n:
                ink = INK["pos"] if estimate.value > 0 else INK["neg"]
                ax.add_patch(Rectangle((j - 0.48, i - 0.47), 0.96, 0.94, linewidth=0, facecolor=ink,
                                       alpha=0.55 * min(1.0, abs(estimate.value))))
            said = short(round(estimate.value, 3) + 0).replace("-", "−") if estimate.n else "–"  # + 0: no -0
            ax.text(j, i, said, ha="center", va="center", fontsize=9.5)
        method_rows(ax, names, family_of(content, content.headline))
        ax.set_xticks(range(len(names) - 1), names[:-1], rotation=35, ha="right", rotation_mode="anchor",
                      color=INK["ink"], fontsize=9.5)
        ax.set_ylim(len(names) - 0.5, 0.5)
        ax.set_xlim(-0.5, len(names) - 1.5)
        ax.spines[:].set_visible(False)
        ax.tick_params(length=0)
        svg = inline(figure, "Mean Spearman correlation between methods")
    widest = max((max(e.high - e.value, e.value - e.low) for e in rho.values() if e.n), default=0.0)
    caption = (f"Spearman's rank correlation of the scores of all {len(content.train):,} training rows, mean over "
               f"{len(content.queries):,} queries; no 95 % interval reaches further than "
               f"{show_number(round(widest, 3))} from its mean. Blue: same order; orange: reversed; – : a method "
               f"that gives every row the same score.")
    if len(names) < len(content.scores):
        caption += (f" One member of each family: its default damping, {show_number(content.default_damping)} × mean "
                    "eigenvalue.")
    return Plot("Which methods agree?", caption, svg, wide=True)
