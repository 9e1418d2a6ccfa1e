"""The proximal Bregman response function (PBRF), by really minimising the proximal Bregman objective.

    theta*(m) = argmin  (1/N) sum_i D_i(h(theta, x_i), h(theta_s, x_i)) + eps L(z_m, theta)
                        + lambda/2 |theta - theta_s|^2

D_i is the Bregman divergence of the loss in the outputs, theta_s the trained weights. Influence functions with the
Gauss-Newton matrix are the first order in eps of theta* (Grosse et al. 2023, eq. 7 to 9; Bae et al. 2022).

One objective for each training point m, all minimised side by side in float64 by L-BFGS (Nocedal & Wright 2006, 7.2),
whose first matrix is the damped inverse at theta_s,

    M^-1,  M = lambda I + (1/N) B^T B        (1/N) B^T B = the Gauss-Newton matrix at theta_s, or nearly

A minimum is a zero of the true gradient, whatever M is; M only says how soon it is reached. What is left of the
gradient is returned. With eps = 0 the start is the minimum and nothing moves.

Shapes: K points, P parameters (the order of `parameters_to_vector`), r rows of B. Cost of a step: K forward and
backward passes over the N rows, and 4 r P K operations for M^-1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from problems import Split
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap
from torch.nn.utils import parameters_to_vector

from whence.truth.output_loss import OutputLoss as Loss

TOGETHER = 16  # points whose activations are held at once
ROUNDING = 1e-14  # of a gradient
TOLERANCE = 1e-4  # of a gradient, relative to that at the start
MEMORY, HALVINGS = 6, 8


@dataclass(frozen=True)
class Response:
    """Where the objectives have their minima.

    Attributes:
        delta: theta* - theta_s of each point, float64 [K, P].
        start: norm of the gradient at theta_s, eps |grad L(z_m)|.
        gradient: norm of what is left of the gradient, float64 [K].
        steps: steps taken by each point, int [K].
    """

    delta: Float[Tensor, "K P"]
    start: Float[np.ndarray, " K"]
    gradient: Float[np.ndarray, " K"]
    steps: Int[np.ndarray, " K"]

    @property
    def left(self) -> Float[np.ndarray, " K"]:
        """`gradient / start`; 0 where there was nothing to do."""
        return np.divide(self.gradient, self.start, out=np.zeros_like(self.gradient), where=self.start > 0)


@dataclass(frozen=True)
class Objective:
    """The proximal Bregman objectives of one trained network.

    Attributes:
        model, loss, data: theta_s, L, and the N rows of the first term.
        damping: lambda.
        B: float64 or float32 [r, P], rows such that `B^T B / N` is the Gauss-Newton matrix, or nearly.
    """

    model: nn.Module
    loss: Loss
    data: Split
    damping: float
    B: Float[Tensor, "r P"]

    def respond(self, points: Split, eps: float, tolerance: float = TOLERANCE, steps: int = 20) -> Response:
        """Minimise for every point, until the gradient is `tolerance` of what it was at the start, or `steps` are over.

        A step that does not lower its objective is halved. Where no halving helps the point is left: with ReLU a
        minimum may lie at a kink, where the gradient jumps past zero.
        """
        evaluate, precondition = self._evaluation(eps), damped_inverse(self.B, len(self.data), self.damping)
        delta = torch.zeros(len(points), sum(p.numel() for p in self.model.parameters()), dtype=torch.float64)
        g, value = evaluate(delta, points)
        start = g.norm(dim=1) if eps else torch.zeros(len(points), dtype=torch.float64)
        goal, left, taken = (tolerance * start).clamp_min(ROUNDING), g.norm(dim=1), torch.zeros(len(points)).long()
        active, pairs = torch.arange(len(points)), Pairs()
        stuck = torch.zeros(len(points), dtype=torch.bool)
        for _ in range(steps):
            going = (left[active] > goal[active]) & ~stuck
            active, g, value = active[going], g[going], value[going]
            if len(active) == 0:
                break
            pairs.keep(going)
            here = delta[active]
            d = pairs.direction(g, precondition)
            slope, length = (g * d).sum(1), torch.ones(len(active), dtype=g.dtype)
            new_g, new_value, trying = g.clone(), value.clone(), torch.arange(len(active))
            for _ in range(HALVINGS):
                trial = here[trying] + length[trying, None] * d[trying]
                g_trial, value_trial = evaluate(trial, points.at(active[trying]))
                fell = value_trial <= value[trying] + 1e-4 * length[trying] * slope[trying]
                fell |= g_trial.norm(dim=1) < 0.5 * g[trying].norm(dim=1)  # where rounding hides the fall
                done = trying[fell]
                delta[active[done]], new_g[done], new_value[done] = trial[fell], g_trial[fell], value_trial[fell]
                trying = trying[~fell]
                length[trying] *= 0.5
                if len(trying) == 0:
                    break
            stuck = torch.zeros(len(active), dtype=torch.bool)
            stuck[trying] = True
            pairs.add(delta[active] - here, new_g - g)
            g, value, left[active] = new_g, new_value, new_g.norm(dim=1)
            taken[active] += 1
        return Response(delta, start.numpy(), left.numpy(), taken.numpy())

    def _evaluation(self, eps: float) -> Callable[[Tensor, Split], tuple[Tensor, Tensor]]:
        """Gradients [k, P] and values [k] of the objectives of k points."""
        theta = parameters_to_vector(self.model.parameters()).detach()
        with torch.no_grad():
            z_s = self.model(self.data.x)

        def objective(delta: Tensor, x: Tensor, y: Tensor) -> Tensor:
            moved = self._weights(theta + delta)
            divergence = self.loss.bregman(functional_call(self.model, moved, (self.data.x,)), z_s).mean()
            own = self.loss.value(functional_call(self.model, moved, (x[None],)), y[None])[0]
            return divergence + eps * own + 0.5 * self.damping * delta.square().sum()

        together = vmap(grad_and_value(objective), chunk_size=TOGETHER)
        return lambda delta, points: together(delta, points.x, points.y)

    def change(self, response: Response, point: Split) -> Float[np.ndarray, " K"]:
        """`f(theta*) - f(theta_s)` of every response, f = minus the loss of one row."""
        theta = parameters_to_vector(self.model.parameters()).detach()

        def measured(delta: Tensor) -> Tensor:
            return -self.loss.value(functional_call(self.model, self._weights(theta + delta), (point.x,)), point.y)[0]

        with torch.no_grad():
            before = measured(torch.zeros_like(theta))
            return (vmap(measured, chunk_size=TOGETHER)(response.delta) - before).numpy()

    def _weights(self, theta: Tensor) -> dict[str, Tensor]:
        parts = theta.split([p.numel() for p in self.model.parameters()])
        return {name: part.view(p.shape) for (name, p), part in zip(self.model.named_parameters(), parts, strict=True)}


def damped_inverse(B: Float[Tensor, "r P"], count: int, damping: float) -> Callable[[Tensor], Tensor]:
    """`v [K, P] -> (lambda I + B^T B / N)^-1 v` by Woodbury, in the data type of B:

        (v - B^T (B B^T + N lambda I)^-1 B v) / lambda
    """
    inner = B @ B.T
    inner.diagonal().add_(count * damping)
    factor = torch.linalg.cholesky(inner)

    def apply(v: Float[Tensor, "K P"]) -> Float[Tensor, "K P"]:
        v_ = v.to(B.dtype)
        scale = v_.norm(dim=1, keepdim=True).clamp_min(torch.finfo(B.dtype).tiny)  # float32 cannot hold 1e-40
        unit = v_ / scale
        return ((unit - torch.cholesky_solve(B @ unit.T, factor).T @ B) * (scale / damping)).to(v.dtype)

    return apply


class Pairs:
    """Batched L-BFGS: the last few changes of weights s and gradients y, each [K, P]."""

    def __init__(self) -> None:
        self._kept: list[tuple[Tensor, Tensor, Tensor]] = []

    def add(self, s: Float[Tensor, "K P"], y: Float[Tensor, "K P"]) -> None:
        """A new pair; where `<s, y>` is not positive it is left out (weight zero)."""
        sy = (s * y).sum(1)
        self._kept = [*self._kept, (s, y, torch.where(sy > 0, 1 / sy, 0.0))][-MEMORY:]

    def keep(self, going: Tensor) -> None:
        """Forget the points that are done."""
        self._kept = [(s[going], y[going], rho[going]) for s, y, rho in self._kept]

    def direction(self, g: Float[Tensor, "K P"], precondition: Callable[[Tensor], Tensor]) -> Float[Tensor, "K P"]:
        """`-H g` by the two loops (Nocedal & Wright, algorithm 7.4), H of no pairs being `precondition`."""
        q, weights = g.clone(), []
        for s, y, rho in reversed(self._kept):
            weights.append(rho * (s * q).sum(1))
            q -= weights[-1][:, None] * y
        r = precondition(q)
        for s, y, rho in self._kept:
            r += (weights.pop() - rho * (y * r).sum(1))[:, None] * s
        return -r
