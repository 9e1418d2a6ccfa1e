"""Where scores stand under a run's `scores/NAME`, and how they are read again."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from whence.base.files import read_json
from whence.data.examples import Examples
from whence.scores.matrix import Scores


def slug(method: str) -> str:
    """A folder name for a method: `fisher(damping=0.1, scope=model)` to `fisher-damping=0.1-scope=model`."""
    return re.sub(r"[^\w.=]+", "-", method).strip("-")


def with_earlier(place: Path, identity: Mapping[str, Any], methods: Sequence[str]) -> list[str]:
    """`methods` after those already stored there, if these came from the same weights, rows, blocks and layout."""
    stored = read_json(place / "about.json") if (place / "about.json").exists() else {}
    same = all(stored.get(name) == value for name, value in identity.items())
    return list(dict.fromkeys([*(stored["methods"] if same else ()), *methods]))


def read_scored(place: Path) -> tuple[Examples, dict[str, Scores]]:
    """The queries and all scores stored under a run's `scores/NAME`, in the order they were asked for."""
    about = read_json(place / "about.json")
    return Examples.read_parquet(place / "queries.parquet"), {
        method: Scores.read(place / slug(method)) for method in about["methods"]}
