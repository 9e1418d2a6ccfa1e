"""What whence predicts of the response: the score of training point m for one measurement, by several curvatures.

    score = (1/N) v^T (C + lambda I)^-1 g_m        v = grad f,  g_m = -grad L(z_m),  lambda the same for every C

The curvatures are fitted by whence's own code; only how rows reach the network differs from a language model: an
example is a row of numbers and one position. Labels are sampled from the model (one draw a row, as whence does for
language models unless told otherwise, or ten), or all of them are summed with their probabilities (`exact`), which is
the Fisher matrix itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from problems import Split
from response import damped_inverse
from torch import Tensor, nn

from whence.curvature.conjugate_gradient import conjugate_gradient
from whence.curvature.damping import Damping
from whence.curvature.fit import Situation
from whence.curvature.gauss_newton import GaussNewton
from whence.curvature.kronecker import Curvature
from whence.curvature.solver import Kronecker
from whence.data.examples import Examples
from whence.models.blocks import Block, list_blocks
from whence.sweep.capture import Captured, captured
from whence.sweep.sweep import GradientSink
from whence.truth.output_loss import OutputLoss as Loss

TOLERANCE = 1e-4  # of conjugate gradients


@dataclass(frozen=True)
class Rows(Situation):
    """A network on rows of numbers, as a `Situation`; `train` only says how many there are.

    Attributes:
        x: the rows.
        loss: of the network.
        exact: sum over all labels instead of sampling one.
    """

    x: Float[Tensor, "N features"] = field(kw_only=True)
    loss: Loss = field(kw_only=True)
    exact: bool = False

    @classmethod
    def of(cls, model: nn.Module, loss: Loss, data: Split, exact: bool) -> Rows:
        """The situation of a network with its training rows and all of its linear layers."""
        n, position = len(data), np.zeros(1, dtype=np.int64)
        places = Examples(tuple(map(str, range(n))), (None,) * n, ("",) * n, ("",) * n, (position,) * n,
                          (position.astype(bool),) * n, (False,) * n)
        return cls(model, places, list_blocks(model), x=data.x, loss=loss, exact=exact)

    def _pass(self, sink: GradientSink, curvature: Curvature, rows: np.ndarray, what: str) -> None:
        x = self.x[rows].repeat(curvature.draws, 1)
        with torch.no_grad():
            z = self.model(x)
        if self.exact:  # C examples a row: the sums over labels of d d^T, and of (d a^T)^2, are sums over examples
            classes = z.shape[1]
            x, dz = x.repeat_interleave(classes, 0), self.loss.root(z).flatten(0, 1)
        else:
            y = self.loss.sampled(z, torch.Generator().manual_seed(curvature.seed))
            dz = output_gradients(self.loss, z, y)
        capture(self.model, self.blocks, x, dz, sink.update)
        sink.finish(np.arange(len(x)))


def output_gradients(loss: Loss, z: Float[Tensor, "n C"], y: Tensor) -> Float[Tensor, "n C"]:
    """dL / dz."""
    z = z.detach().requires_grad_()
    return torch.autograd.grad(loss.value(z, y).sum(), z)[0]


def capture(model: nn.Module, blocks: Sequence[Block], x: Float[Tensor, "n features"], dz: Float[Tensor, "n C"],
            update: Callable[[Captured], object]) -> None:
    """One pass that hands out `a` and the gradient of `<z, dz>` at the outputs of every block."""
    reach = torch.ones(len(x), 1, dtype=torch.bool)

    def receive(index: int, source: int, a: Tensor, d: Tensor) -> None:
        update(Captured(index, source, a[:, None], d[:, None], reach, slice(0, len(x)), blocks[index].bias))

    with captured(model, blocks, receive):
        model(x).backward(dz)


def row_gradients(model: nn.Module, blocks: Sequence[Block], x: Float[Tensor, "n features"],
                  dz: Float[Tensor, "n C"]) -> list[Float[Tensor, "n _"]]:
    """Gradients of `<z, dz>` with respect to each block, one a row."""
    found: dict[int, Tensor] = {}
    capture(model, blocks, x, dz, lambda share: found.update({share.block: share.gradients()}))
    return [found[b] for b in range(len(blocks))]


def gradients(model: nn.Module, loss: Loss, rows: Split) -> list[Float[Tensor, "n _"]]:
    """`-grad L` of every row: the gradient of what whence calls its log-probability."""
    with torch.no_grad():
        z = model(rows.x)
    return row_gradients(model, list_blocks(model), rows.x, -output_gradients(loss, z, rows.y))


def curvature_rows(model: nn.Module, loss: Loss, data: Split, least: float = 0.0) -> Float[Tensor, "r P"]:
    """B with `B^T B / N` the Gauss-Newton matrix: `sqrt(mu) u^T J_i` for eigenpairs (mu, u) of each row's Hessian in z.

    Only rows of B whose square norm is above `least`; those of a network that is sure are next to nothing.
    """
    with torch.no_grad():
        root = loss.root(model(data.x))
        mu, u = torch.linalg.eigh(root.mT @ root)
    blocks, classes = list_blocks(model), mu.shape[1]
    weights = (mu.clamp_min(0).sqrt()[:, None] * u).mT.flatten(0, 1)  # [n C, C]
    norms = torch.zeros(len(weights), dtype=weights.dtype)

    def add_norms(share: Captured) -> None:  # |d a~^T|^2 = |d|^2 |a~|^2
        norms.add_(share.d.square().sum((1, 2)) * (share.a.square().sum((1, 2)) + share.bias))

    capture(model, blocks, data.x.repeat_interleave(classes, 0), weights, add_norms)
    at = torch.nonzero(norms > least).flatten()
    return torch.cat(row_gradients(model, blocks, data.x[at // classes], weights[at]), dim=1)


def predict(model: nn.Module, loss: Loss, data: Split, points: Split, measured: Split, rule: Damping,
            seed: int) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Scores [K] of the points for the measurement, by method; and lambda with the facts of conjugate gradients.

    `exact blocks` is the Gauss-Newton matrix without its entries between blocks, inverted exactly: what a curvature
    that goes block by block could reach at best. `rule` is applied to the eigenvalues of EK-FAC with all labels.
    """
    blocks = list_blocks(model)
    v, g = gradients(model, loss, measured), gradients(model, loss, points)
    exact, sampled = Rows.of(model, loss, data, exact=True), Rows.of(model, loss, data, exact=False)
    fitted = exact.fit(Curvature("ekfac", rows=-1))
    lam = rule.of([b.mean for b in fitted.blocks], [b.largest for b in fitted.blocks],
                  [b.eigenvalues.numel() for b in fitted.blocks])[0]

    def scores(x: Sequence[Tensor]) -> np.ndarray:
        return sum((b @ a[0] for a, b in zip(x, g, strict=True)), torch.zeros(1, dtype=g[0].dtype)).numpy() / len(data)

    def solve(situation: Rows, curvature: Curvature, x: Sequence[Tensor]) -> list[Tensor]:
        solver = Kronecker(curvature, Damping(lam, "absolute"))
        return [part.whole() for part in solver.solve([part.clone() for part in x], situation).vectors]

    found = {"gradient dot": scores(v)}
    for name, kind in (("diagonal", "diagonal"), ("K-FAC", "kfac"), ("EK-FAC", "ekfac")):
        found[name] = scores(solve(sampled, Curvature(kind, rows=-1, seed=seed), v))
    found["EK-FAC, 10 draws"] = scores(solve(sampled, Curvature("ekfac", rows=-1, seed=seed, draws=10), v))
    ekfac = Curvature("ekfac", rows=-1)
    found["K-FAC, all labels"] = scores(solve(exact, Curvature("kfac", rows=-1), v))
    found["EK-FAC, all labels"] = scores(solve(exact, ekfac, v))
    matrix = GaussNewton(model, blocks, lambda rows: model(data.x[rows]), np.arange(len(data)), loss.hessian)
    cg = conjugate_gradient(matrix.product, v, lam, tolerance=TOLERANCE, iterations=500,
                            preconditioner=lambda r: solve(exact, ekfac, r))
    found["CG"] = scores(cg.x)
    B = curvature_rows(model, loss, data, least=1e-2 * len(data) * lam).split([part.shape[1] for part in v], dim=1)
    found["exact blocks"] = scores([damped_inverse(rows, len(data), lam)(part)
                                    for rows, part in zip(B, v, strict=True)])
    return found, {"lambda": lam, "cg_residual": float(cg.residual[0]), "cg_iterations": int(cg.iterations[0])}
