"""`Scores`: one method's score of every training example for every query, and what it was made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from whence.base.errors import WhenceError
from whence.base.files import atomic_folder, read_json, write_json


@dataclass(frozen=True)
class Scores:
    """Scores of N training examples for Q queries.

    Attributes:
        values: float64 [Q, N]. Positive = proponent: training on the example pushes the measured behaviour
            up. Never NaN or infinite.
        method: the specification that made them, such as `datainf(damping=0.1)`.
        unit: `nats` for a predicted change of log-probability, else what the numbers are.
        facts: JSON-able facts about how they were made (curvature, effective damping, residual, N, ...).
    """

    values: np.ndarray
    method: str
    unit: str = "nats"
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.values.ndim != 2:
            raise WhenceError(f"{self.method}: scores have shape {self.values.shape}; expected [queries, train]")
        bad = np.argwhere(~np.isfinite(self.values))
        if len(bad):
            q, j = bad[0]
            raise WhenceError(f"{self.method}: the score of query {q} and training row {j} is "
                              f"{self.values[q, j]} ({len(bad)} of {self.values.size} are not finite)")

    def write(self, folder: str | Path) -> None:
        """Write `scores.safetensors` and `scores.json` into `folder`, atomically."""
        with atomic_folder(folder) as part:
            save_file({"values": np.ascontiguousarray(self.values)}, part / "scores.safetensors")
            write_json(part / "scores.json", {"method": self.method, "unit": self.unit, "facts": dict(self.facts)})

    @classmethod
    def read(cls, folder: str | Path) -> Scores:
        """Read what `write` wrote."""
        folder = Path(folder)
        about = read_json(folder / "scores.json")
        try:
            values = load_file(folder / "scores.safetensors")["values"]
        except (FileNotFoundError, SafetensorError, KeyError) as error:
            raise WhenceError(f"{folder}: not a folder of scores ({error})") from None
        return cls(values, about["method"], about["unit"], about["facts"])
