"""Plots of the linear datamodeling score: methods side by side, and against the size of the sample."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import matplotlib
import numpy as np
from outcomes import Interval, Result, by_value

from whence.base.files import atomic_file

matplotlib.use("Agg")  # no screen needed
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure


def plot(result: Result, path: Path) -> None:
    """One interval a method, highest on top; the ceiling as a line with its band."""
    figure, axes = pyplot.subplots(figsize=(8, 1.6 + 0.28 * len(result.lds)))
    names = by_value(result.lds)[::-1]
    band(axes.axvspan, axes.axvline, result.ceiling, "ceiling: the mean outcome known")
    values = np.array([result.lds[name] for name in names])
    axes.errorbar(values[:, 0], range(len(names)), xerr=errors(values), fmt="o", capsize=3, color="C0")
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("linear datamodeling score (mean Spearman over\nqueries), 95 % interval")
    axes.axvline(0, color="0.7", linewidth=0.8)
    finish(figure, axes, path)


def plot_curve(result: Result, rows: Mapping[str, int], full: str, path: Path) -> None:
    """LDS against the rows that the curvature was fitted on; the fit on all as a band."""
    figure, axes = pyplot.subplots(figsize=(7, 4.5))
    band(axes.axhspan, axes.axhline, result.lds[full], f"{full}, 95 % interval", color="C1")
    axes.axhline(result.ceiling[0], color="0.4", linestyle="--", label="ceiling: the mean outcome known")
    for k, series in enumerate(dict.fromkeys(name.partition("@")[0] for name in rows)):
        mine = sorted((count, result.lds[name]) for name, count in rows.items() if name.partition("@")[0] == series)
        values = np.array([value for _, value in mine])
        axes.errorbar([count for count, _ in mine], values[:, 0], yerr=errors(values), fmt="o-", capsize=3,
                      color=f"C{(0, *range(2, 10))[k % 9]}", label=series)
    axes.set_xscale("log", base=2)
    ticks = sorted(set(rows.values()))
    axes.set_xticks(ticks, [str(count) for count in ticks])
    axes.set_xlabel("rows that the curvature is fitted on")
    axes.set_ylabel("LDS (mean Spearman over queries), 95 % interval")
    finish(figure, axes, path)


def band(span: Callable[..., object], line: Callable[..., object], value: Interval, label: str,
         color: str = "0.4") -> None:
    """A line at the value and a pale band over its interval."""
    span(value[1], value[2], color=color, alpha=0.15, linewidth=0)
    line(value[0], color=color, linestyle="--", label=label)


def errors(values: np.ndarray) -> np.ndarray:
    """[2, n] lengths down and up, for error bars, from [n, (value, low, high)]."""
    return np.stack([values[:, 0] - values[:, 1], values[:, 2] - values[:, 0]]).clip(0)


def finish(figure: Figure, axes: Axes, path: Path) -> None:
    """Legend, tight margins, file."""
    axes.legend(loc="lower right", fontsize=8)
    figure.tight_layout()
    with atomic_file(path) as part:
        figure.savefig(part, format="png", dpi=150)
