"""How much is added to the curvature before it is inverted.

Relative damping, `lambda = factor x mean eigenvalue` of a block's curvature: for the empirical Fisher
`F = (1/N) sum_i g_i g_i^T` over P parameters the mean eigenvalue is `tr F / P = mean_i mean(g_i^2)`, so a
factor of 0.1 is both the rule of Grosse et al. 2023 and that of Kwon et al. 2024 (DataInf).
"""

from __future__ import annotations

import numpy as np

from whence.base.errors import WhenceError

DAMPINGS = (0.01, 0.1, 1.0, 10.0, 100.0)


def relative_damping(gram: np.ndarray, parameters: int, factor: float) -> float:
    """`factor * tr(K) / (N P)` for a Gram matrix K [N, N] of gradients over P parameters.

    Raises:
        WhenceError: the factor is not positive, or every gradient of the block is zero.
    """
    if not factor > 0:
        raise WhenceError(f"damping={factor}: expected a positive number (0.1 is the usual choice)")
    mean_eigenvalue = float(np.trace(gram)) / (len(gram) * parameters)
    if mean_eigenvalue == 0:
        raise WhenceError("every training gradient of a block is zero, so its relative damping is zero too: leave "
                          "that block out (an adapter that was never trained has such blocks)")
    return factor * mean_eigenvalue
