"""Is LiSSA a multiple of gradient dot? On the study's own runs, with both recursions."""

from __future__ import annotations

import numpy as np
import pandas as pd

from whence.study.estimate import estimate, markdown, pick
from whence.tasks.interval import short


def likeness(table: pd.DataFrame) -> str:
    """Ratio and rank correlation of each method's scores with gradient dot's."""
    rows = pick(table, experiment="switches", training="published")
    lines = []
    for name, method, scoring in (("LiSSA, published recursion", "lissa", "published"),
                                  ("LiSSA that converges", "lissa", "LiSSA corrected"),
                                  ("DataInf", "datainf", "published"),
                                  ("exact empirical Fisher", "fisher", "published")):
        own = pick(rows, method=method, scoring=scoring)
        ratio, spread = (pick(own, metric=metric)["value"] for metric in ("ratio to gradient-dot",
                                                                          "spread of the ratio"))
        if len(ratio):
            relative = spread.to_numpy() / np.abs(ratio.to_numpy())
            lines.append([name, short(float(ratio.median())), short(float(np.median(relative))),
                          str(estimate(pick(own, metric="as gradient-dot")))])
    return markdown(["scores", "median ratio to gradient dot", "quartile range of the ratio, relative",
                     "rank correlation with gradient dot"], lines)
