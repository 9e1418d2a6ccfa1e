"""What becomes of a trained model without some of its rows, by six definitions of "becomes": r0 to r5.

With rows S taken out of N, eps = 1/N each, theta_s the trained weights, J(theta) = (1/N) sum_i L_i + decay/2 |theta|^2,

    r0  cold start     the same training from fresh weights, without S
    r1  warm start     argmin J - eps L_S, from theta_s
    r2  proximal       argmin J - eps L_S + lambda/2 |theta - theta_s|^2
    r3  PBRF           argmin (1/N) sum_i D_i - eps L_S + (lambda + decay)/2 |theta - theta_s|^2
    r4  linearised     theta_s + eps (G + (lambda + decay) I)^-1 grad L_S
    r5  practical      r4 with somebody's solver in place of the exact inverse

L_S is the sum over the rows of S, D_i the Bregman divergence of row i's loss in its outputs, G the Gauss-Newton matrix.
The distance between neighbours is a gap with a name: warm-start, proximity, non-convergence, linearisation, solver
(Bae et al. 2022, arXiv 2209.05364). r1 of a fine-tune that had not converged also trains on: the same with S empty is
its control.

Everything runs on all rows at once in the data type of the weights; float64 is meant, for models of up to some
100,000 weights. Minima are found by L-BFGS with a strong Wolfe line search, and what is left of the gradient is
reported. Outputs may be any number a row: `owners` says whose they are.

Shapes: P weights, N rows, n outputs, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call, jvp, vjp
from torch.nn.attention import SDPBackend, sdpa_kernel

from whence.base.errors import WhenceError
from whence.curvature.blockwise import Blockwise
from whence.curvature.conjugate_gradient import conjugate_gradient
from whence.data.batch import Batch, collate
from whence.data.examples import Examples
from whence.truth.output_loss import CrossEntropy, OutputLoss

HISTORY = 30
Forward = Callable[[Float[Tensor, " P"]], Float[Tensor, "n C"]]
InverseProduct = Callable[[Float[Tensor, " P"]], Float[Tensor, " P"]]


@dataclass(frozen=True)
class Minimum:
    """Where an objective has its minimum.

    Attributes:
        theta: the weights.
        objective: the value there.
        gradient: norm of the gradient there.
        start: norm of the gradient where it began.
    """

    theta: Float[Tensor, " P"]
    objective: float
    gradient: float
    start: float


@dataclass(frozen=True)
class Problem:
    """Rows, a loss, and a network as a function of its flat weights.

    Attributes:
        forward: outputs of all training rows.
        owners: the row that each output belongs to.
        targets: label of each output.
        rows: N.
        loss: convex in the outputs.
        decay: of the weights, in the objective.
    """

    forward: Forward
    owners: Int[Tensor, " n"]
    targets: Tensor
    rows: int
    loss: OutputLoss
    decay: float = 0.0

    @classmethod
    def of_network(cls, model: nn.Module, x: Float[Tensor, "N features"], y: Tensor, loss: OutputLoss,
                   decay: float = 0.0) -> Problem:
        """A network on rows of numbers, one output a row."""
        return cls(_flat(model, lambda weights: functional_call(model, dict(weights), (x,))), torch.arange(len(x)), y,
                   len(x), loss, decay)

    @classmethod
    def of_language_model(cls, model: nn.Module, examples: Examples, pad_id: int = 0, decay: float = 0.0) -> Problem:
        """A causal language model: its outputs are the logits at the counted tokens."""
        batch = collate(examples, range(len(examples)), pad_id)
        return cls(_flat(model, lambda weights: logits(model, weights, batch)), batch.owners, batch.targets,
                   len(examples), CrossEntropy(), decay)

    def losses(self, theta: Float[Tensor, " P"]) -> Float[Tensor, " N"]:
        """L of each row: the sum over its outputs."""
        return self._by_row(self.loss.value(self.forward(theta), self.targets))

    def objective(self, theta: Float[Tensor, " P"], weights: Float[Tensor, " N"]) -> Float[Tensor, ""]:
        """`sum_i weights_i L_i + decay/2 |theta|^2`; J for weights of 1/N."""
        return (weights * self.losses(theta)).sum() + 0.5 * self.decay * theta.square().sum()

    def without(self, removed: Sequence[int] | np.ndarray, share: float = 1.0) -> Float[Tensor, " N"]:
        """Weights 1/N, and (1 - share)/N for the rows that are taken out.

        Raises:
            WhenceError: a row that is not there, or all of them.
        """
        rows = np.unique(np.asarray(removed, dtype=np.int64))
        if len(rows) and (rows.min() < 0 or rows.max() >= self.rows):
            raise WhenceError(f"row {int(rows.max())} is not one of {self.rows} (0 to {self.rows - 1})")
        if len(rows) == self.rows:
            raise WhenceError(f"all {self.rows} rows are taken out; expected one at least to stay")
        weights = torch.full((self.rows,), 1 / self.rows, dtype=torch.float64)
        weights[torch.from_numpy(rows)] *= 1 - share
        return weights

    def _by_row(self, per_output: Float[Tensor, " n"]) -> Float[Tensor, " N"]:
        return torch.zeros(self.rows, dtype=per_output.dtype).index_add(0, self.owners, per_output)


@dataclass(frozen=True)
class Responses:
    """r1 to r5 of one trained model.

    Attributes:
        problem: rows, loss, network.
        trained: theta_s.
        damping: lambda.
        tolerance: of a minimum: norm of the gradient, relative to that of one row's loss over N.
        iterations: of L-BFGS, at most.
        exactness: of the inverse product of r4: its relative residual.
        share: of a row's weight that is taken out: 1 is all of it, little of it the first order.
    """

    problem: Problem
    trained: Float[Tensor, " P"]
    damping: float
    tolerance: float = 1e-6
    iterations: int = 2000
    exactness: float = 1e-10
    share: float = 1.0

    def __post_init__(self) -> None:
        if not self.damping > 0:
            raise WhenceError(f"damping={self.damping}: expected a number above 0")

    def warm(self, removed: Sequence[int] | np.ndarray) -> Minimum:
        """r1."""
        weights = self.problem.without(removed, self.share)
        return self.minimise(lambda theta: self.problem.objective(theta, weights), self.trained)

    def proximal(self, removed: Sequence[int] | np.ndarray) -> Minimum:
        """r2."""
        weights = self.problem.without(removed, self.share)
        return self.minimise(lambda theta: self.problem.objective(theta, weights) + self._near(theta, self.damping),
                             self.trained)

    def bregman(self, removed: Sequence[int] | np.ndarray) -> Minimum:
        """r3."""
        problem, out = self.problem, 1 / self.problem.rows - self.problem.without(removed, self.share)

        def value(theta: Tensor) -> Tensor:
            z = problem.forward(theta)
            divergence = problem.loss.bregman(z, self._outputs).sum() / problem.rows
            lost = (out * problem._by_row(problem.loss.value(z, problem.targets))).sum()
            return divergence - lost + self._near(theta, self.damping + problem.decay)

        return self.minimise(value, self.trained)

    def linear(self, removed: Sequence[int] | np.ndarray, inverse: InverseProduct | None = None) -> Tensor:
        """r4, or r5 with somebody's `inverse`: `v -> (C + lambda I)^-1 v`."""
        return self.trained + (inverse or self.exact_inverse)(self.removed_gradient(removed))

    def removed_gradient(self, removed: Sequence[int] | np.ndarray) -> Float[Tensor, " P"]:
        """eps grad L_S at theta_s."""
        out = 1 / self.problem.rows - self.problem.without(removed, self.share)
        theta = self.trained.clone().requires_grad_()
        return torch.autograd.grad((out * self.problem.losses(theta)).sum(), theta)[0]

    def exact_inverse(self, v: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
        """`(G + (lambda + decay) I)^-1 v` by conjugate gradients on exact products."""
        found = conjugate_gradient(self._product, [v[None]], self.damping + self.problem.decay,
                                   tolerance=self.exactness, iterations=20 * len(v))
        return found.x[0][0]

    def gauss_newton(self, v: Float[Tensor, " P"]) -> Float[Tensor, " P"]:
        """`G v`: J v by a forward derivative, the Hessian in the outputs, J^T by a backward one."""
        moved: Any = jvp(self.problem.forward, (self.trained,), (v,))
        HJv = self.problem.loss.hessian(moved[0], moved[1][None].clone())[0]
        back: Any = vjp(self.problem.forward, self.trained)[1]
        image: Tensor = back(HJv)[0]
        return image / self.problem.rows

    def minimise(self, value: Callable[[Tensor], Tensor], start: Float[Tensor, " P"]) -> Minimum:
        """L-BFGS from `start`.

        Raises:
            WhenceError: a value or gradient that is not finite.
        """
        theta = start.clone().requires_grad_()
        goal = self.tolerance * self.size
        optimizer = torch.optim.LBFGS([theta], max_iter=self.iterations, max_eval=3 * self.iterations,
                                      tolerance_grad=goal / len(theta) ** 0.5, tolerance_change=0.0,
                                      history_size=HISTORY, line_search_fn="strong_wolfe")
        first: list[float] = []

        def evaluate() -> Tensor:
            optimizer.zero_grad()
            found = value(theta)
            found.backward()  # type: ignore[no-untyped-call]
            assert theta.grad is not None
            norm = theta.grad.norm().item()
            if not np.isfinite(found.item() + norm):
                raise WhenceError(f"the objective is {found.item()} with a gradient of norm {norm}; expected finite "
                                  "numbers: a larger damping or decay")
            first.append(norm)
            return found

        optimizer.step(evaluate)
        last = evaluate().item()
        return Minimum(theta.detach().clone(), last, first[-1], first[0])

    @cached_property
    def _outputs(self) -> Tensor:
        with torch.no_grad():
            return self.problem.forward(self.trained)

    @cached_property
    def size(self) -> float:
        """Norm of the gradient of one row's loss over N, the typical one: what gradients are held against."""
        theta = self.trained.clone().requires_grad_()
        losses = self.problem.losses(theta)
        some = np.unique(np.linspace(0, self.problem.rows - 1, 16).astype(int))
        norms = [torch.autograd.grad(losses[i], theta, retain_graph=True)[0].norm().item() for i in some]
        return float(np.sqrt(np.mean(np.square(norms)))) / self.problem.rows or 1.0

    def _near(self, theta: Tensor, strength: float) -> Tensor:
        return 0.5 * strength * (theta - self.trained).square().sum()

    def _product(self, vectors: Blockwise) -> Blockwise:
        return [torch.stack([self.gauss_newton(v) for v in vectors[0]])]


def logits(model: nn.Module, weights: Mapping[str, Tensor], batch: Batch) -> Float[Tensor, "n V"]:
    """Logits at the counted positions under other weights."""
    inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask,
              "position_ids": batch.position_ids, "use_cache": False}
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no forward derivative
        output = functional_call(model, dict(weights), (), inputs)
    return output.logits.flatten(0, 1)[batch.flat]  # type: ignore[no-any-return]


def flat_weights(model: nn.Module) -> Float[Tensor, " P"]:
    """All weights that require a gradient, one after the other."""
    return torch.cat([p.detach().reshape(-1) for p in model.parameters() if p.requires_grad])


def _flat(model: nn.Module, run: Callable[[Mapping[str, Tensor]], Tensor]) -> Forward:
    """A function of the flat weights that require a gradient; the others stay as they are."""
    named = [(name, p.shape, p.numel()) for name, p in model.named_parameters() if p.requires_grad]
    if not named:
        raise WhenceError("no weight of the model requires a gradient, so nothing can respond")

    def forward(theta: Tensor) -> Tensor:
        parts = theta.split([size for _, _, size in named])
        return run({name: part.view(shape) for (name, shape, _), part in zip(named, parts, strict=True)})

    return forward
