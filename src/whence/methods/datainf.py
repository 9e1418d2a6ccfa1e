"""DataInf (Kwon et al. 2024): the empirical Fisher's inverse replaced by a mean of rank-one inverses."""

from __future__ import annotations

from whence.curvature.datainf import datainf_product
from whence.curvature.gram import dampings_of, total
from whence.methods.evidence import Evidence
from whence.methods.registry import method
from whence.methods.solver_facts import solver_facts
from whence.scores.matrix import Scores


@method(needs={"grams"})
def datainf(evidence: Evidence, *, damping: float = 0.1, rule: str = "block") -> Scores:
    """`score = (1/N) sum_blocks v^T (1/N) sum_i (g_i g_i^T + lambda I)^-1 g`, lambda relative for each block.

    `rule` is that of the damping: block (the published one), largest, global, absolute (`curvature/damping.py`).
    Kwon, Wu, Wu & Zou 2024, arXiv 2310.00902; the published code's `lambda_const_param = 10` is a damping of 0.1.
    """
    grams = evidence.need_grams()
    dampings = dampings_of(grams, damping, rule)
    values = total(datainf_product(gram, lam) for gram, lam in zip(grams, dampings, strict=True))
    facts = solver_facts("empirical Fisher, mean of inverses", grams, dampings, rule)
    return Scores(values / grams[0].n, "", "nats", facts)
