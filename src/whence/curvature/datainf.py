"""DataInf's approximate inverse: the mean of the inverses instead of the inverse of the mean.

    (F + lambda I)^-1  ~  (1/N) sum_i (g_i g_i^T + lambda I)^-1
                       =  (1/lambda) [ I - (1/N) sum_i g_i g_i^T / (lambda + |g_i|^2) ]

Kwon, Wu, Wu & Zou 2024, arXiv 2310.00902, eq. 5, block by block.
"""

from __future__ import annotations

import numpy as np

from whence.curvature.gram import Gram


def datainf_product(gram: Gram, damping: float) -> np.ndarray:
    """`V M G^T` [Q, N] with M the matrix above, from the Gram matrices: two products of [Q, N] by [N, N]."""
    weights = 1 / (damping + np.diag(gram.train)) / gram.n
    return (gram.cross - (gram.cross * weights) @ gram.train) / damping
