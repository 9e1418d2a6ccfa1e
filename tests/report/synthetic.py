"""Made-up content for reports: random scores with a signal for rows of the query's group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from whence.data.examples import Examples
from whence.report import ReportContent
from whence.scores.matrix import Scores
from whence.tasks.table import metric_table

HEADLINE = "fisher(damping=0.1)"
METHODS = (HEADLINE, "fisher(damping=1)", "datainf(damping=0.1)", "repsim(layer=-1,token=mean)", "bm25",
           "random")


def examples(count: int, what: str, words: int = 4) -> Examples:
    """Rows of three groups whose prompt and response name them."""
    return Examples(
        ids=tuple(f"{what}-{i}" for i in range(count)),
        groups=tuple(["red", "green", "blue"][i % 3] for i in range(count)),
        prompts=tuple(f"prompt of {what} {i}" + " word" * words for i in range(count)),
        responses=tuple(f"response of {what} {i}" for i in range(count)),
        tokens=tuple(np.arange(4) for _ in range(count)),
        is_response=tuple(np.array([False, False, True, True]) for _ in range(count)),
        truncated=tuple(i == 1 for i in range(count)),
    )


def content(n_queries: int = 5, n_train: int = 30, methods: Sequence[str] = METHODS, words: int = 4,
            n_blocks: int = 6, **changes: Any) -> ReportContent:
    """A whole report; every part can be replaced by name. Metrics are those of the scores, unless given."""
    rng = np.random.default_rng(0)
    train, queries = examples(n_train, "train", words), examples(n_queries, "query", words)
    same = np.array(queries.groups)[:, None] == np.array(train.groups)[None]
    scores = {label: Scores(0.5 * same + 0.3 * rng.standard_normal(same.shape), label, facts={"damping": 0.1})
              for label in methods}
    mixture = rng.dirichlet(np.ones(n_blocks))

    def block_scores(q: int, rows: Sequence[int]) -> np.ndarray:
        return scores[methods[0]].values[q, list(rows)][:, None] * mixture

    parts: dict[str, Any] = {
        "title": "A made-up run",
        "facts": {"n_used": n_train, "model": {"name": "tiny", "rope": {"theta": 1e4}}},
        "train": train, "queries": queries, "scores": scores, "headline": methods[0],
        "baselines": tuple(label for label in methods if label in ("bm25", "random")),
        "blocks": tuple(f"layers.{b // 2}.part{b % 2}" for b in range(n_blocks)),
        "block_scores": block_scores, "notes": ("look out",),
        "behaviours": [{"log_prob_nats": -1.5 - q, "greedy": f"answer {q}", "greedy_matches": q == 0}
                       for q in range(n_queries)],
    }
    parts |= changes
    if "metrics" not in changes and set(queries.groups) <= set(train.groups):
        parts["metrics"] = metric_table(parts["scores"], list(train.groups), list(queries.groups),
                                        metrics=("acc", "auprc"), resamples=200)
    return ReportContent(**parts)


def ranked(order: Sequence[Sequence[int]], method: str) -> Scores:
    """Scores [Q, 6] of training rows in two groups; order[q] = rows from best to worst."""
    values = np.zeros((len(order), 6))
    for q, rows in enumerate(order):
        values[q, list(rows)] = np.arange(6)[::-1]
    return Scores(values, method)
