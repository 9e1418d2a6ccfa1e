"""Curvature of a block in a Kronecker eigenbasis, C = (Q_S x Q_A) diag(L) (Q_S x Q_A)^T, and its kinds.

| kind       | bases Q_A, Q_S: eigenvectors of                      | L                                            |
|------------|------------------------------------------------------|----------------------------------------------|
| diagonal   | none                                                 | E[G^2]                                       |
| kfac       | A = E_tok[a~ a~^T], S = E_tok[d d^T]                 | (tokens / row) l_S l_A^T                     |
| ekfac      | the same                                             | E[(Q_S^T G Q_A)^2]                           |
| shampoo    | R = E[G^T G], L = E[G G^T]                           | l_L l_R^T / tr                               |
| eshampoo   | the same                                             | E[(Q_S^T G Q_A)^2]                           |

E is the mean over rows, E_tok over tokens, G = sum over a row's tokens of d a~^T [out, in'] with labels sampled from
the model (Fisher = Gauss-Newton) or those of the data (empirical Fisher). All L are per row: the same damping means
the same for each. Martens & Grosse 2015 (K-FAC), George et al. 2018 (EK-FAC), Grosse et al. 2023 (arXiv 2308.03296,
Eq. 16 to 21 and 26; block-diagonal factors, Eq. 33); Gupta et al. 2018 (Shampoo), with the one power iteration
`L (x) R / tr L` of Morwani et al. 2024 (arXiv 2406.17748) as its Kronecker approximation.

    (C + lambda I)^-1 V = Q_S [ (Q_S^T V Q_A) / (L + lambda) ] Q_A^T                                       (Eq. 21)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from whence.base.errors import WhenceError
from whence.sweep.basis import Basis, flattened, homogeneous, rotate, rotate_back

Kind = Literal["diagonal", "kfac", "ekfac", "shampoo", "eshampoo"]
KINDS: tuple[Kind, ...] = get_args(Kind)
LABELS = ("sampled", "empirical")


@dataclass(frozen=True)
class Curvature:
    """Which curvature, and how it is estimated; two equal ones are the same fit.

    Attributes:
        kind: see the table above.
        labels: `sampled` from the model (seeded) or `empirical`.
        rows: training rows it is fitted on, drawn without replacement; 0 for the default sample
            (`fit.default_rows`), -1 for all.
        seed: of sampled labels and rows.
        parts: diagonal blocks that the two covariances are cut into (1: none).
        draws: labels sampled for each token, a pass over the rows each; 0: one, and more where even all rows are too
            few (`fit.label_draws`). A model that is sure of its rows nearly always draws the same label, and its
            curvature is in the others.

    Raises:
        WhenceError: an unknown kind of labels, or numbers out of range.
    """

    kind: Kind
    labels: str = "sampled"
    rows: int = 0
    seed: int = 0
    parts: int = 1
    draws: int = 0

    def __post_init__(self) -> None:
        if self.labels not in LABELS:
            raise WhenceError(f"labels={self.labels}: expected {' or '.join(LABELS)}")
        if self.rows < -1:
            raise WhenceError(f"rows={self.rows}: expected a number of rows, 0 for the default sample or -1 for all")
        if self.parts < 1:
            raise WhenceError(f"parts={self.parts}: expected at least 1")
        if self.seed < 0:
            raise WhenceError(f"seed={self.seed}: expected 0 or more")
        if self.draws < 0 or (self.draws > 1 and self.labels == "empirical"):
            raise WhenceError(f"draws={self.draws}: expected 0 (enough) or more, and with labels=empirical just 1")

    @property
    def moments(self) -> Literal["covariance", "shampoo"] | None:
        """What its bases are the eigenvectors of."""
        if self.kind in ("kfac", "ekfac"):
            return "covariance"
        return "shampoo" if self.kind in ("shampoo", "eshampoo") else None

    @property
    def corrected(self) -> bool:
        """Whether its eigenvalues are second moments measured in the basis, which takes a pass of their own."""
        return self.kind in ("diagonal", "ekfac", "eshampoo")


@dataclass(frozen=True)
class BlockCurvature:
    """The fitted curvature of one block."""

    name: str
    basis: Basis
    eigenvalues: Float[Tensor, "out in"]

    @property
    def mean(self) -> float:
        """Mean eigenvalue, tr C / P."""
        return float(self.eigenvalues.double().mean())

    @property
    def largest(self) -> float:
        """Largest eigenvalue."""
        return float(self.eigenvalues.max())

    def effective_dimension(self, damping: float) -> float:
        """`sum_i L_i / (L_i + lambda)`: how many coordinates the damping leaves to the curvature."""
        values = self.eigenvalues.double()
        return float((values / (values + damping)).sum())

    def rotated(self, V: Float[Tensor, "K out in"]) -> Float[Tensor, "K out in"]:
        """`Q_S^T V Q_A`."""
        return rotate(rotate(V, self.basis.a).mT, self.basis.s).mT

    def rotated_back(self, V: Float[Tensor, "K out in"]) -> Float[Tensor, "K out in"]:
        """`Q_S V Q_A^T`."""
        return rotate_back(rotate_back(V, self.basis.a).mT, self.basis.s).mT

    def solve(self, V: Float[Tensor, "K out in"], damping: float) -> Float[Tensor, "K out in"]:
        """`(C + lambda I)^-1 V` for each of K gradients."""
        return self.rotated_back(self.rotated(V) / (self.eigenvalues.to(V.dtype) + damping))

    def solve_rotated(self, V: Float[Tensor, "K P"], bias: bool, damping: float) -> None:
        """`(C + lambda I)^-1 v` in place of the coordinates `Q_S^T v Q_A` [out, in'], in the layout of
        `Captured.gradients`: one at a time in kept memory.

        Cost: `out in' (out + in')` multiply-adds each.
        """
        outputs, width = self.eigenvalues.shape
        scale = 1 / (self.eigenvalues.to(V.dtype) + damping)
        half = torch.empty_like(scale)
        for v in V:
            self._back(v.view(outputs, width).mul_(scale), half, v, bias)

    def _back(self, rotated: Tensor, half: Tensor, v: Tensor, bias: bool) -> None:
        """`Q_S M Q_A^T` of one M, into v, which may be the very memory of M."""
        outputs, width = rotated.shape
        inputs = width - bias
        if not len(self.basis.a) == len(self.basis.s) == 1:
            v.copy_(flattened(self.rotated_back(rotated[None]), bias)[0])
            return
        Q_A, Q_S = self.basis.a[0].to(v.dtype), self.basis.s[0].to(v.dtype)
        torch.mm(Q_S, rotated, out=half)
        torch.mm(half, Q_A[:inputs].T, out=v[: outputs * inputs].view(outputs, inputs))
        if bias:
            torch.mv(half, Q_A[-1], out=v[outputs * inputs :])

    def solve_each(self, V: Float[Tensor, "K P"], bias: bool, damping: float) -> None:
        """`solve`, in place, for gradients in the layout of `Captured.gradients`: one at a time in kept memory.

        Cost: `2 out in' (out + in')` multiply-adds each.
        """
        outputs, width = self.eigenvalues.shape
        scale = 1 / (self.eigenvalues.to(V.dtype) + damping)
        inputs, whole = width - bias, len(self.basis.a) == len(self.basis.s) == 1
        half, full = torch.empty_like(scale), torch.empty_like(scale)
        for v in V:
            if not whole:
                solved = self.rotated_back(self.rotated(homogeneous(v[None], outputs, inputs, bias)) * scale)
                v.copy_(flattened(solved, bias)[0])
                continue
            Q_A, Q_S = self.basis.a[0].to(v.dtype), self.basis.s[0].to(v.dtype)
            weight = v[: outputs * inputs].view(outputs, inputs)
            torch.mm(weight, Q_A[:inputs], out=half)  # Q_S [(Q_S^T v Q_A) * scale] Q_A^T
            if bias:
                half.addr_(v[outputs * inputs :], Q_A[-1])
            torch.mm(Q_S.T, half, out=full)
            self._back(full.mul_(scale), half, v, bias)

    def product(self, V: Float[Tensor, "K out in"]) -> Float[Tensor, "K out in"]:
        """`C V` for each of K gradients."""
        return self.rotated_back(self.rotated(V) * self.eigenvalues.to(V.dtype))


def eigenvectors(matrix: Float[Tensor, "n n"], parts: int, what: str) -> tuple[tuple[Tensor, ...], Tensor]:
    """Orthonormal eigenvectors of the diagonal blocks of a symmetric matrix, and all eigenvalues [n], float64.

    The matrix is cut into `parts` blocks of nearly equal size; entries outside them are left out (Grosse et al.
    2023, App. A). Rounding below zero is set to zero.

    Raises:
        WhenceError: an entry is NaN or infinite.
    """
    if not bool(torch.isfinite(matrix).all()):
        raise WhenceError(f"{what}: NaN or infinity in a covariance; a gradient of the training rows is not finite, or "
                          "too large for the data type")
    vectors, values, start = [], [], 0
    for size in (len(piece) for piece in torch.arange(len(matrix)).tensor_split(min(parts, len(matrix)))):
        at = slice(start, start + size)
        part = matrix[at, at].double().cpu()
        mu, Q = torch.linalg.eigh((part + part.T) / 2)
        vectors.append(Q)
        values.append(mu.clamp_min(0))
        start += size
    return tuple(vectors), torch.cat(values)
