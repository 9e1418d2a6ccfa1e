"""Labels drawn from the model itself, which turn squared gradients into the Fisher information.

With targets y ~ p(. | context) the covariance of the log-probability's gradient is the Fisher matrix, which for
softmax outputs is the Gauss-Newton matrix of the loss (Martens 2014; Kunstner et al. 2019). With the true
targets it is the *empirical* Fisher, another matrix.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from whence.data.examples import Examples


class SampledLabels:
    """One label for each counted token, by inverse transform of a number that only seed, row and place decide.

    The number comes from a counter-based generator keyed with a hash of the row's tokens, so a label does not
    depend on the batch, the padding or the order of rows (but for ties within the rounding of a probability).
    Two rows of equal tokens draw equal numbers, but where the examples are some rows over and over: row r is then
    draw `r // every` of row `r % every`.

    Args:
        seed: of all numbers.
        every: how many rows there are before they come again; None: they do not.
    """

    def __init__(self, seed: int = 0, every: int | None = None) -> None:
        self.seed, self.every = seed, every

    def uniforms(self, examples: Examples, rows: Sequence[int] | np.ndarray) -> Float[Tensor, " n"]:
        """Numbers in [0, 1) for the counted tokens of `rows`, in reading order."""
        return torch.from_numpy(np.concatenate([self._of_row(examples, int(row)) for row in rows]))

    def _of_row(self, examples: Examples, row: int) -> np.ndarray:
        digest = hashlib.blake2b(examples.tokens[row].tobytes(), digest_size=8).digest()
        draw = row // self.every if self.every else 0
        generator = np.random.Generator(np.random.Philox(key=[self.seed, int.from_bytes(digest, "little")],
                                                         counter=[0, 0, 0, draw]))
        return generator.random(int(examples.is_response[row].sum()), dtype=np.float32)


def draw(logits: Float[Tensor, "n V"], uniforms: Float[Tensor, " n"]) -> Int[Tensor, " n"]:
    """`min {v : sum_{w <= v} p_w > u}`: the label of each position."""
    cumulative = torch.softmax(logits.detach(), dim=1, dtype=torch.promote_types(logits.dtype, torch.float32))
    torch.cumsum(cumulative, dim=1, out=cumulative)
    threshold = uniforms.to(cumulative.dtype)[:, None] * cumulative[:, -1:]
    return torch.searchsorted(cumulative, threshold, right=True)[:, 0].clamp_(max=logits.shape[1] - 1)
