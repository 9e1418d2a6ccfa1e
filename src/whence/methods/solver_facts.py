"""Facts every gradient method reports of itself: curvature, effective damping, parameters, N, reduction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from whence.curvature.gram import Gram


def solver_facts(curvature: str, grams: Sequence[Gram], dampings: Sequence[float], rule: str | None = None,
                 **more: Any) -> dict[str, Any]:
    """JSON-able facts; `effective_damping` is what was really added, over the blocks, by `rule` (None: by no rule)."""
    return {
        "curvature": curvature,
        **({"damping_rule": rule} if rule else {}),
        "effective_damping": {"min": float(np.min(dampings)), "median": float(np.median(dampings)),
                              "max": float(np.max(dampings))},
        "parameters": sum(gram.parameters for gram in grams),
        "blocks": len(grams),
        "n": grams[0].n,
        "loss": "sum over response tokens",
        **more,
    }
