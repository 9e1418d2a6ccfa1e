"""whence on the workload, by the interface of the peer scripts (see common.py).

`--method` takes any method of whence with its options: 'ekfac(rows=-1)' is the fit on all rows that the peers do,
'ekfac' the default fit on a sample.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from common import Job, run
from transformers import AutoTokenizer

import whence
from whence.data.examples import Examples
from whence.methods.registry import parse
from whence.sweep.sweep import Layout

METHODS = ("ekfac(rows=-1)", "ekfac", "kfac(rows=-1)", "kfac", "gradient-dot", "eshampoo(rows=-1)", "diagonal(rows=-1)")


def attribute(job: Job) -> tuple[np.ndarray, dict[str, Any]]:
    """Scores through `Run.fit` and `Run.score`."""
    with job.phase("load"):
        model, tokenizer = job.load(), AutoTokenizer.from_pretrained(str(job.folder))
    layout = Layout(batch_tokens=128 * (job.args.batch or 32))
    run_ = whence.Run(model, tokenizer, _examples(job.train, "row"), folder=job.scratch, layout=layout)
    method = job.args.method
    if "gradient-dot" not in method:
        inside = [text for text in (method.partition("(")[2].rstrip(")"), f"damping={job.args.damping}",
                                    f"labels={job.args.labels}", f"seed={job.args.seed}") if text]
        method = f"{method.partition('(')[0]}({', '.join(inside)})"
        with job.phase("fit"):
            facts = run_.fit(method)
    else:
        facts = {}
    with job.phase("score"):
        scored = run_.score(_examples(job.queries, "query"), method)
    scores = scored[str(parse(method))]
    return scores.values * len(job.train), {"batch": layout.batch_tokens // 128, "call": method, **facts}


def _examples(tokens: np.ndarray, prefix: str) -> Examples:
    count, counted = len(tokens), np.arange(tokens.shape[1]) > 0
    return Examples(ids=tuple(f"{prefix}{i}" for i in range(count)), groups=(None,) * count, prompts=("",) * count,
                    responses=("",) * count, tokens=tuple(tokens), is_response=(counted,) * count,
                    truncated=(False,) * count)


if __name__ == "__main__":
    run("whence", attribute, methods=METHODS, packages=("whence",))
