"""The report's plots, one a file: each answers one question, says so in words, and has intervals."""

from __future__ import annotations

from whence.report.content import ReportContent
from whence.report.plots.agreements import agreements
from whence.report.plots.dampings import dampings
from whence.report.plots.distribution import distribution
from whence.report.plots.hubs import hubs
from whence.report.plots.intervals import intervals
from whence.report.plots.plot import Plot


def draw_all(content: ReportContent) -> list[Plot]:
    """Every plot that the content has the data for."""
    drawn = (intervals(content), dampings(content), distribution(content), hubs(content), agreements(content))
    return [plot for plot in drawn if plot is not None]


__all__ = ["Plot", "agreements", "dampings", "distribution", "draw_all", "hubs", "intervals"]
