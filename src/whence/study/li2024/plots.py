"""One plot for each of the paper's three analyses, from the study's table alone; SVG files beside the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from whence.base.files import atomic_file
from whence.report.svg import style
from whence.study.estimate import by, estimate, pick
from whence.study.kinds.inverse import FISHER, GAUSS_NEWTON
from whence.study.li2024.tables import LESS_THAN, PUBLISHED_METHODS, change

COLOURS = {"gradient-dot": "#4269d0", "identity": "#4269d0", "datainf": "#efb118", "lissa": "#ff725c",
           "lissa-published": "#9c6b4e", "fisher": "#6cc5b0", "ekfac": "#3ca951", "repsim": "#a463f2",
           "tfidf": "#888888", "ekfac(labels=empirical)": "#97bbf5", "fisher(scope=model)": "#2a7a6d"}
NAMES = {"identity": "gradient dot", "gradient-dot": "gradient dot", "lissa": "LiSSA",
         "lissa-published": "LiSSA (as published)", "datainf": "DataInf", "fisher": "empirical Fisher, exact",
         "fisher(scope=model)": "empirical Fisher, whole model", "ekfac": "EK-FAC", "repsim": "RepSim",
         "tfidf": "TF-IDF", "ekfac(labels=empirical)": "EK-FAC on the data's labels"}
FAINT = 0.12


def save(figure: Figure, path: Path) -> Path:
    """Write an SVG, atomically."""
    with atomic_file(path) as part:
        figure.savefig(part, format="svg", bbox_inches="tight", facecolor="white", metadata={"Date": None})
    return path


def curve(ax: Axes, rows: pd.DataFrame, x: str, label: str, colour: str, dash: str = "-") -> None:
    """Mean and 95 % band of `value` at each value of column `x`."""
    points = [(at, estimate(part)) for at, part in sorted(by(rows, x).items())]
    points = [(at, found) for at, found in points if found.n]
    if not points:
        return
    ax.plot([at for at, _ in points], [e.value for _, e in points], dash, color=colour, label=label, marker="o",
            markersize=3.5, linewidth=1.6)
    ax.fill_between([at for at, _ in points], [e.low for _, e in points], [e.high for _, e in points], color=colour,
                    alpha=0.15, linewidth=0)


def inverse_plot(table: pd.DataFrame, path: Path) -> Path:
    """4.1: the angle to the exact product, against damping, parameters and reference."""
    rows = pick(table, experiment="inverse", metric="angle")
    with style("inverse"):
        figure = Figure(figsize=(13, 3.8))
        left, middle, right = figure.subplots(1, 3)
        fisher = pick(rows, scoring=FISHER, training="corrected")
        for method in ("identity", "datainf", "lissa-published", "lissa"):
            curve(left, pick(fisher, method=method), "damping", NAMES[method], COLOURS[method])
        left.set_ylabel("sine of the angle to the exact product")
        left.set_title("Solver alone: exact empirical\nFisher of each block", fontsize=10.5)
        exact = pick(rows, scoring=GAUSS_NEWTON)
        for method in ("identity", "datainf", "fisher", "fisher(scope=model)", "ekfac(labels=empirical)", "ekfac"):
            curve(middle, pick(exact, method=method), "damping", NAMES[method], COLOURS[method])
        middle.set_title("Solver and curvature: exact\nGauss-Newton matrix", fontsize=10.5)
        sizes = with_parameters(table)
        at = pick(sizes, scoring=FISHER, damping=0.1)
        for method in ("identity", "datainf", "lissa-published", "lissa"):
            curve(right, pick(at, method=method), "parameters", NAMES[method], COLOURS[method])
        right.set_title("Solver alone, damping 0.1,\nby number of parameters", fontsize=10.5)
        right.set_xlabel("attributed parameters (ranks, layers, models)")
        for ax, ticks in ((left, (0.001, 0.01, 0.1, 1, 10, 100)), (middle, (0.1, 1, 10)),
                          (right, (1000, 3000, 10000, 30000))):
            ax.set_xscale("log")
            ax.set_xticks(ticks, [f"{tick:,g}" for tick in ticks])
            ax.set_xticks([], minor=True)
            ax.set_ylim(-0.03, 1.06)
            ax.grid(alpha=FAINT)
        for ax in (left, middle):
            ax.set_xlabel("damping (× mean eigenvalue)")
        left.legend(fontsize=8, frameon=False)
        middle.legend(fontsize=8, frameon=False)
        return save(figure, path)


def with_parameters(table: pd.DataFrame) -> pd.DataFrame:
    """The angles of `inverse` with the number of parameters of their cell as a column."""
    rows = pick(table, experiment=["inverse", "inverse, sizes"])
    count = rows[rows["metric"] == "parameters"].set_index("cell")["value"].to_dict()
    angles = rows[rows["metric"] == "angle"].copy()
    angles["parameters"] = angles["cell"].astype(str).map({str(k): v for k, v in count.items()})
    return angles


def checkpoint_plot(table: pd.DataFrame, path: Path) -> Path:
    """4.2: every metric over a fine-tune's checkpoints, as published and corrected."""
    rows = shares(pick(table, experiment="checkpoints"))
    metrics = ("acc", "cover", "auprc")
    methods = ("tfidf", "repsim", "gradient-dot", "datainf", "lissa", "ekfac")
    with style("checkpoints"):
        figure = Figure(figsize=(12.5, 6.4))
        axes = figure.subplots(2, len(metrics), sharex=True, sharey="col")
        for line, training in zip(axes, ("published", "corrected"), strict=True):
            part = pick(rows, training=training, scoring=training)
            for ax, metric in zip(line, metrics, strict=True):
                for method in methods:
                    curve(ax, pick(part, method=method, metric=metric), "share", NAMES[method], COLOURS[method])
                ax.set(title=f"{metric.capitalize() if metric != 'auprc' else 'AUPRC'}, {training}", ylim=(-0.03, 1.06))
                ax.grid(alpha=FAINT)
        for ax in axes[-1]:
            ax.set_xlabel("share of the fine-tune's steps")
        for line in axes:
            line[0].set_ylabel("share, mean over queries")
        axes[1][-1].legend(fontsize=8, frameon=False, bbox_to_anchor=(1.02, 1), loc="upper left")
        return save(figure, path)


def shares(rows: pd.DataFrame) -> pd.DataFrame:
    """Checkpoints as shares of the last step of their fine-tune (rounded, so that tasks line up)."""
    rows = rows.copy()
    last = rows.groupby(["task", "model", "training"], observed=True)["step"].transform("max")
    rows["share"] = (rows["step"] / last * 6).round() / 6
    return rows


def change_plot(table: pd.DataFrame, path: Path) -> Path:
    """4.3: change of parameters, loss and behaviour along fine-tunes of growing shares of marked rows."""
    rows = pick(table, experiment="change")
    tasks = [str(task) for task in rows["task"].unique()]
    palette: Sequence[str] = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#a463f2")
    panels = (("norm", "|ΔW| / |W|"), ("loss, marked", "loss on marked queries, nats a token"),
              ("KL", "KL(base‖tuned), nats a token"), ("marker rate, marked", "marked queries answered with it"))
    with style("change"):
        figure = Figure(figsize=(13, 6.6))
        top, bottom = figure.subplots(2, 4)
        for ax, (metric, label) in zip(top, panels, strict=True):
            for task, colour in zip(tasks, palette, strict=False):
                curve(ax, pick(rows, task=task, metric=metric), "step", task, colour)
            ax.set(xlabel="step", ylabel=label)
            ax.grid(alpha=FAINT)
        rate = "marker rate, marked"
        pairs = (("norm", rate), ("loss, marked", rate), ("KL", rate), ("norm", "KL"))
        labels = dict(panels)
        for ax, (x, y) in zip(bottom, pairs, strict=True):
            for task, colour in zip(tasks, palette, strict=False):
                points = paired(pick(rows, task=task), x, y)
                ax.plot(points[x], points[y], "o", color=colour, markersize=3, alpha=0.5)
            ax.set(xlabel=labels[x], ylabel=labels[y])
            ax.grid(alpha=FAINT)
        top[0].legend(fontsize=8, frameon=False)
        figure.tight_layout()
        return save(figure, path)


def paired(rows: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    """Two metrics of the same checkpoint side by side."""
    index = ["task", "model", "tune", "seed", "step"]
    both = pick(rows, metric=[x, y])
    return both.pivot_table(index=index, columns="metric", values="value", observed=True).reset_index()


def switch_plot(table: pd.DataFrame, path: Path) -> Path:
    """The ablation: change of Acc, AUPRC and leave-k-out by one switch, with intervals."""
    rows = pick(table, experiment="switches", method=PUBLISHED_METHODS)
    names = [name for name, (training, scoring) in LESS_THAN.items()
             if len(pick(rows, training=training, scoring=scoring))]
    with style("switches"):
        figure = Figure(figsize=(11.5, 0.3 * len(names) + 1.2))
        axes = figure.subplots(1, 3, sharey=True)
        for ax, (metric, label) in zip(axes, (("acc", "Acc"), ("auprc", "AUPRC"), ("leave-k-out", "leave-k-out")),
                                       strict=True):
            start = pick(rows, training="published", scoring="published", metric=metric)
            for y, name in enumerate(names):
                training, scoring = LESS_THAN[name]
                found = change(pick(rows, training=training, scoring=scoring), start, metric)
                if found.n:
                    ax.plot([found.low, found.high], [y, y], color="#4269d0", linewidth=1.8)
                    ax.plot(found.value, y, "o", color="#4269d0", markersize=5)
            ax.axvline(0, color="#888888", linewidth=1)
            ax.set(xlabel=f"change of {label}, 95 % interval", ylim=(len(names) - 0.4, -0.6))
            ax.grid(axis="x", alpha=FAINT)
        axes[0].set_yticks(range(len(names)), names, fontsize=9)
        return save(figure, path)
