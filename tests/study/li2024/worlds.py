"""Tables of made-up studies, in which the truth about each published conclusion is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

SEEDS, QUERIES, SPREAD = 5, 8, 0.01
PLACE = {"task": "mixed", "model": "llama", "tune": "lora", "training": "corrected", "scoring": "corrected", "step": -1,
         "damping": 0.1}


def rows(values: Mapping[str, float | int], **place: Any) -> Iterator[dict[str, Any]]:
    """A row for each seed and query of each method, `values[method]` and a little noise."""
    rng = np.random.default_rng(len(values))
    for method, value in values.items():
        for seed in range(SEEDS):
            for query in range(QUERIES):
                yield {**PLACE, **place, "method": method, "seed": seed, "query": query,
                       "value": value + SPREAD * rng.normal()}


def table(*parts: Iterator[dict[str, Any]]) -> pd.DataFrame:
    """Of what `rows` gave."""
    return pd.DataFrame([row for part in parts for row in part])
