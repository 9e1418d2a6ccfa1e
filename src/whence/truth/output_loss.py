"""Losses that are convex in a network's outputs z, with what proximal Bregman responses need of them.

    D(z, z_s) = L(z) - L(z_s) - <grad L(z_s), z - z_s>        the Bregman divergence of L in the outputs

Shapes: n outputs, C classes or targets.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from whence.curvature.gauss_newton import OutputHessian, softmax_hessian, squared_error_hessian


class SquaredError:
    """L = 1/2 |z - y|^2, whose Hessian in z is the identity; labels are normal with variance 1 around z."""

    hessian: OutputHessian = staticmethod(squared_error_hessian)

    def value(self, z: Float[Tensor, "n C"], y: Tensor) -> Float[Tensor, " n"]:
        """L of each output; y [n, C]."""
        return 0.5 * (z - y).square().sum(-1)

    def bregman(self, z: Float[Tensor, "n C"], start: Float[Tensor, "n C"]) -> Float[Tensor, " n"]:
        """D(z, start), in which y cancels."""
        return 0.5 * (z - start).square().sum(-1)

    def sampled(self, z: Float[Tensor, "n C"], generator: torch.Generator) -> Tensor:
        """A label for each output, drawn from the model."""
        return z + torch.randn(z.shape, generator=generator, dtype=z.dtype)

    def root(self, z: Float[Tensor, "n C"]) -> Float[Tensor, "n C C"]:
        """R with `R^T R` the Hessian in z."""
        return torch.eye(z.shape[1], dtype=z.dtype).expand(len(z), -1, -1)


class CrossEntropy:
    """L = -log softmax(z)_y, whose Hessian in z is diag(p) - p p^T; labels follow p."""

    hessian: OutputHessian = staticmethod(softmax_hessian)

    def value(self, z: Float[Tensor, "n C"], y: Tensor) -> Float[Tensor, " n"]:
        """L of each output; y int [n]."""
        return z.logsumexp(-1) - torch.gather(z, -1, y[..., None])[..., 0]

    def bregman(self, z: Float[Tensor, "n C"], start: Float[Tensor, "n C"]) -> Float[Tensor, " n"]:
        """D(z, start) = KL(p_s || p), in which y cancels."""
        return z.logsumexp(-1) - start.logsumexp(-1) - (start.softmax(-1) * (z - start)).sum(-1)

    def sampled(self, z: Float[Tensor, "n C"], generator: torch.Generator) -> Tensor:
        """A label for each output, drawn from the model."""
        return torch.multinomial(z.softmax(-1), 1, generator=generator)[:, 0]

    def root(self, z: Float[Tensor, "n C"]) -> Float[Tensor, "n C C"]:
        """R with `R^T R` the Hessian in z: row c is sqrt(p_c) (e_c - p), the gradient under label c times sqrt(p_c)."""
        p = z.softmax(-1)
        return p.sqrt()[:, :, None] * (torch.eye(z.shape[1], dtype=z.dtype) - p[:, None, :])


OutputLoss = SquaredError | CrossEntropy
