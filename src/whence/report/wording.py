"""How numbers, labels and facts are written, the same everywhere on the page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

TEXT_LIMIT = 600
METRIC_NAMES = {"acc": "Acc", "cover": "Cover", "cover_at_positives": "Cover@positives", "auprc": "AUPRC",
                "roc_auc": "ROC-AUC", "mrr": "MRR"}


def base_name(label: str) -> str:
    """The method's name without its options: `fisher(damping=0.1)` -> `fisher`."""
    return label.partition("(")[0]


def cut(text: str) -> tuple[str, int]:
    """The first 600 characters and how many were cut."""
    return text[:TEXT_LIMIT], max(0, len(text) - TEXT_LIMIT)


def show_number(value: float | int | np.integer | np.floating) -> str:
    """Four significant digits, a real minus sign, thousands separated from 10,000 on; `–` for NaN: undefined.

    >>> [show_number(value) for value in (1234567, -0.0123456, 2e4, 3e-7, float("nan"))]
    ['1,234,567', '−0.01235', '20,000', '3e−7', '–']
    """
    if np.isnan(value):
        return "–"
    whole = isinstance(value, int | np.integer) or 1e4 <= abs(float(value)) < 1e12
    text = f"{value + 0:,.0f}" if whole else f"{value + 0:.4g}"  # + 0: no negative zero
    return re.sub(r"e([+-])0*", lambda e: "e" + e.group(1).strip("+"), text).replace("-", "−")


def show_fact(value: Any) -> str:
    """A fact of any JSON-like kind on one line.

    >>> show_fact({"damping": 0.1, "converged": True, "left out": None})
    'damping: 0.1, converged: yes, left out: none'
    """
    if value is None:
        return "none"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer) and 1000 <= value <= 9999:
        return str(value)  # reads as a year, a seed or a length better than with a separator
    if isinstance(value, int | float | np.integer | np.floating):
        return show_number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key}: {show_fact(part)}" for key, part in value.items())
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return ", ".join(map(show_fact, value))
    return str(value)


def show_metric(name: str) -> str:
    """The metric's name as a heading."""
    return METRIC_NAMES.get(name, name.replace("_", " "))
