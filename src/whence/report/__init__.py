"""The static report: one HTML file with every query's hits, the metrics, the plots and the run's facts."""

from whence.report.content import BlockScores, ReportContent
from whence.report.page import MAX_BYTES, to_html, write_report

__all__ = ["MAX_BYTES", "BlockScores", "ReportContent", "to_html", "write_report"]
