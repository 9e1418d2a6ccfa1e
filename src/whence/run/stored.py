"""Where scores stand under a run's `scores/NAME`, and how they are read again."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from whence.base.errors import WhenceError
from whence.base.files import read_json
from whence.data.examples import Examples
from whence.scores.matrix import Scores


def slug(method: str) -> str:
    """A folder name for a method: `fisher(damping=0.1, scope=model)` to `fisher-damping=0.1-scope=model`."""
    return re.sub(r"[^\w.=]+", "-", method).strip("-")


def place_of(folder: Path, name: str, queries: Examples) -> Path:
    """The folder for a set of queries, after a look that it holds no others.

    Raises:
        WhenceError: `name` is no name of a folder, or holds the scores of other queries.
    """
    if not name or Path(name).name != name or name.startswith("."):
        raise WhenceError(f"name {name!r}: expected the name of a folder, such as `queries` (--name)")
    place = folder / "scores" / name
    about = place / "queries.json"
    if about.exists() and read_json(about)["content_hash"] != queries.content_hash:
        raise WhenceError(f"{place}: holds the scores of other queries; choose another name (--name)")
    return place


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
