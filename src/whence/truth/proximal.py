"""What happens when rows weigh a little more or less: the proximal Bregman response of a language model.

    theta*(c) = argmin  sum_i w_i D_i(theta)  +  (1/N) sum_j c_j L_j(theta)  +  lambda/2 |theta - theta_s|^2

theta_s are the trained weights, L_j = -log p of row j's response, c_j how many copies of it are added (below 0: taken
away), and D_i = sum over the counted tokens of row i of KL(p_s || p), the Bregman divergence of the loss in the logits.
Influence functions with the Gauss-Newton matrix of these weights and rows are the first order in c of theta*: a score
is what they say of the measurement under it (Bae et al. 2022, arXiv 2209.05364; Grosse et al. 2023, eq. 7 to 9).

With w_i = 1/N for every row this is the PBRF. Rows may be sampled: the nudged ones keep w = 1/N, a sample of the rest
stands for all of it.

The objective is really minimised, by L-BFGS with a strong Wolfe line search (torch.optim.LBFGS) from theta_s, in
coordinates (`whence.truth.coordinates`) in which its Hessian is near the identity, times a factor that makes the first
step the one of that Hessian; gradient and objective at the end are reported. With c = 0 the start is the minimum and
nothing moves. Divergence and change of loss are computed from the differences z - z_s of logits, centred under p_s,

    KL = log sum p_s e^dz = log(1 + sum p_s (e^dz - 1))        L - L_s = KL - dz_y,        sum p_s dz = 0

the last form where dz is small, so that float32 keeps the digits. Cost of an evaluation: forward and backward over the
rows; the logits of theta_s are kept where they fit, else made again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from peft import PeftModel
from torch import Tensor, nn

from whence.base.errors import WhenceError
from whence.data.batch import Batch, collate, plan_batches
from whence.data.examples import Examples
from whence.measure.measurement import Measurement
from whence.sweep.capture import frozen
from whence.sweep.head import counted_logits
from whence.sweep.sweep import Layout, Measured, sweep
from whence.truth.coordinates import Coordinates, Plain

KEPT_BYTES = 1 << 30  # of the logits at theta_s
HISTORY = 10


@dataclass(frozen=True)
class Nudge:
    """Copies of some rows that are added or taken away.

    Attributes:
        name: for people.
        rows: indices among the training rows, each once.
        copies: of each; 1 is one more, -1 takes the row out, to first order.
    """

    name: str
    rows: Int[np.ndarray, " k"]
    copies: Float[np.ndarray, " k"]

    @classmethod
    def of(cls, name: str, rows: Sequence[int] | np.ndarray, copies: float = 1.0) -> Nudge:
        """The same number of copies of every row."""
        at = np.asarray(rows, dtype=np.int64)
        return cls(name, at, np.full(len(at), copies))


@dataclass(frozen=True)
class Response:
    """Where a nudge takes the weights.

    Attributes:
        delta: theta* - theta_s of each weight, by name.
        left: norm of the objective's gradient there, in the coordinates of the search, relative to that at theta_s; 0
            where there was nothing to do. Where the coordinates make the objective round, its square is the share of
            what the objective could fall that is left.
        lowered: objective at theta_s less that at theta*, in nats per row.
        evaluations: of objective and gradient.
    """

    delta: Mapping[str, Tensor]
    left: float
    lowered: float
    evaluations: int

    @property
    def size(self) -> float:
        """`|theta* - theta_s|`."""
        return float(torch.stack([part.double().square().sum() for part in self.delta.values()]).sum().sqrt())


def tuned_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights that a fine-tune trained: an adapter's; of a plain model those that require a gradient, or all.

    One with two names (tied) is there once.
    """
    named: dict[str, Tensor] = {name: p for name, p in model.named_parameters() if p.is_floating_point()}
    if isinstance(model, PeftModel):
        return {name: p for name, p in named.items() if "lora_" in name}
    return {name: p for name, p in named.items() if p.requires_grad} or named


@contextmanager
def kept(model: nn.Module, weights: Mapping[str, Tensor]) -> Iterator[None]:
    """While open, `weights` alone require a gradient and may be changed; afterwards all is as it was, to the bit."""
    start = {name: p.detach().clone() for name, p in weights.items()}
    wanted = [(p, p.requires_grad) for p in model.parameters()]
    try:
        model.requires_grad_(False)
        for p in weights.values():
            p.requires_grad_(True)
        yield
    finally:
        with torch.no_grad():
            for name, p in weights.items():
                p.copy_(start[name])
                p.grad = None
        for p, required in wanted:
            p.requires_grad_(required)


class Proximal:
    """The objectives of one trained model; the model is as it was after every call.

    Args:
        model: trained; run in evaluation mode.
        train: its N training rows.
        rows: a sample of them that holds outputs in place; all of them for the PBRF itself.
        damping: lambda, positive.
        weights: what may move, by name; default what the fine-tune trained.
        coordinates: to look for the minimum in, for the same lambda and weights; default `Plain`.
        pad_id, layout: how rows become batches.

    Raises:
        WhenceError: no rows, or a damping that is not positive.
    """

    def __init__(self, model: nn.Module, train: Examples, rows: Sequence[int] | np.ndarray, damping: float, *,
                 weights: Mapping[str, Tensor] | None = None, coordinates: Coordinates | None = None, pad_id: int = 0,
                 layout: Layout | None = None) -> None:
        if len(rows) == 0:
            raise WhenceError("no rows to hold the outputs in place; expected at least one")
        if not damping > 0:
            raise WhenceError(f"damping={damping}: expected a number above 0")
        self.model, self.train, self.rows, self.damping = model, train, np.unique(rows), damping
        self.weights = dict(tuned_weights(model) if weights is None else weights)
        self.coordinates = coordinates or Plain(damping)
        self.pad_id, self.layout = pad_id, layout or Layout()
        self._device = next(iter(self.weights.values())).device

    def respond(self, nudge: Nudge, steps: int = 20, tolerance: float = 1e-3) -> Response:
        """Minimise one objective, until the gradient's largest entry is `tolerance` of its first, or `steps` are over.

        Raises:
            WhenceError: a row that is not there or is named twice; an objective that is not finite.
        """
        self._check(nudge)
        still = torch.zeros(sum(p.numel() for p in self.weights.values()), dtype=self._dtype, device=self._device)
        if not len(nudge.rows) or not nudge.copies.any():
            return Response(self._split(still), 0.0, 0.0, 0)
        with frozen(self.model):
            return self._respond(nudge, still, steps, tolerance)

    def _respond(self, nudge: Nudge, still: Tensor, steps: int, tolerance: float) -> Response:
        objective, coordinates = _Objective(self, nudge), self.coordinates
        first = coordinates.pulled(objective(still)[1])
        if not first.any():
            return Response(self._split(still), 0.0, 0.0, objective.evaluations)
        # L-BFGS' first step is min(1, 1/|g|_1) g: the whole of it for an objective times c in coordinates / sqrt(c)
        root = 1 / first.abs().sum().item()
        u = still.clone().requires_grad_()
        best = (np.inf, still, first)  # a line search may end on a worse point than it has met

        def evaluate() -> float:
            nonlocal best
            delta = coordinates.weights(u.detach()) / root
            value, gradient = objective(delta)
            gradient = coordinates.pulled(gradient)
            u.grad = gradient * root
            if value < best[0]:
                best = value, delta, gradient
            return value * root**2

        optimizer = torch.optim.LBFGS([u], lr=1.0, max_iter=steps, max_eval=3 * steps,
                                      tolerance_grad=tolerance * root * first.abs().max().item(),
                                      tolerance_change=0.0, history_size=HISTORY, line_search_fn="strong_wolfe")
        optimizer.step(evaluate)
        value, delta, gradient = best
        return Response(self._split(delta), (gradient.norm() / first.norm()).item(), -value, objective.evaluations)

    def measure(self, response: Response, queries: Examples, measurement: Measurement | None = None) -> Measured:
        """What becomes of queries under a response."""
        with kept(self.model, self.weights):
            with torch.no_grad():
                for name, p in self.weights.items():
                    p.add_(response.delta[name].to(p.dtype))
            return sweep(self.model, queries, measurement=measurement, pad_id=self.pad_id, layout=self.layout,
                         what="queries under a nudge")

    @property
    def bytes_needed(self) -> int:
        """What a response takes beside the model: L-BFGS' pairs, the point, its gradient and direction, and copies."""
        return (2 * HISTORY + 12) * self._dtype.itemsize * sum(p.numel() for p in self.weights.values())

    @property
    def _dtype(self) -> torch.dtype:
        return torch.promote_types(next(iter(self.weights.values())).dtype, torch.float32)

    def _split(self, flat: Tensor) -> dict[str, Tensor]:
        parts = flat.split([p.numel() for p in self.weights.values()])
        return {name: part.view(p.shape) for (name, p), part in zip(self.weights.items(), parts, strict=True)}

    def _check(self, nudge: Nudge) -> None:
        count = len(self.train)
        if len(nudge.rows) and (nudge.rows.min() < 0 or nudge.rows.max() >= count):
            raise WhenceError(f"nudge {nudge.name!r}: row {int(nudge.rows.max())} is not one of {count} (0 to "
                              f"{count - 1})")
        if len(np.unique(nudge.rows)) != len(nudge.rows) or nudge.copies.shape != nudge.rows.shape:
            raise WhenceError(f"nudge {nudge.name!r}: expected every row once, with its number of copies")


class _Objective:
    """One nudge's objective less its value at theta_s, and its gradient, at theta_s + delta."""

    def __init__(self, problem: Proximal, nudge: Nudge) -> None:
        count = len(problem.train)
        self.problem, self.evaluations = problem, 0
        held = np.setdiff1d(problem.rows, nudge.rows)
        self.hold, self.push = np.zeros(count), np.zeros(count)
        self.push[nudge.rows], self.hold[nudge.rows] = nudge.copies / count, 1 / count
        if len(held):
            self.hold[held] = (count - len(nudge.rows)) / (count * len(held))
        rows = np.union1d(held, nudge.rows)
        some = problem.train.select(rows)
        self.batches = [(rows[at], collate(some, at, problem.pad_id, problem.layout.side).to(problem._device))
                        for at in plan_batches(some, problem.layout.batch_tokens, problem.layout.batch_size)]
        self.kept: dict[int, Tensor] = {}

    def __call__(self, delta: Float[Tensor, " P"]) -> tuple[float, Float[Tensor, " P"]]:
        """Value and gradient.

        Raises:
            WhenceError: one of them is not finite.
        """
        problem = self.problem
        total, gradient = 0.5 * problem.damping * delta.double().square().sum().item(), problem.damping * delta
        self.evaluations += 1
        weights = {name: (p.detach() + part.to(p.dtype)).requires_grad_()
                   for (name, p), part in zip(problem.weights.items(), problem._split(delta).values(), strict=True)}
        own = problem._split(gradient)
        for place, (rows, batch) in enumerate(self.batches):
            with torch.enable_grad():
                value = self._batch(rows, batch, self._before(place, batch), weights)
                parts = torch.autograd.grad(value, list(weights.values()), allow_unused=True)
            total += value.item()
            for name, part in zip(weights, parts, strict=True):
                if part is not None:
                    own[name].add_(part.to(gradient.dtype))
        if not (np.isfinite(total) and bool(gradient.isfinite().all())):
            raise WhenceError(f"the proximal objective is {total} with a gradient of norm {gradient.norm().item()}; "
                              "expected finite numbers: a larger damping, or fewer copies")
        return total, gradient

    def _batch(self, rows: np.ndarray, batch: Batch, before: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """The part of a batch."""
        z = self._logits(batch, weights)
        wide = torch.promote_types(z.dtype, torch.float32)
        log_p, dz = before.to(wide).log_softmax(dim=-1), z.to(wide) - before.to(wide)
        p = log_p.exp()
        dz = dz - (p * dz).sum(dim=-1, keepdim=True)
        near = dz.detach().abs().amax(dim=-1) < 1  # else nothing cancels, and e^dz may overflow
        divergence = torch.where(near, (p * torch.expm1(dz.clamp_max(1))).sum(dim=-1).log1p(),
                                 torch.logsumexp(log_p + dz, dim=-1))
        loss = divergence - dz.gather(1, batch.targets[:, None])[:, 0]
        hold, push = (torch.from_numpy(weights[rows]).to(self.problem._device)[batch.owners]
                      for weights in (self.hold, self.push))
        return (hold * divergence).sum() + (push * loss).sum()  # float64 by its weights

    def _before(self, place: int, batch: Batch) -> Tensor:
        """The logits at theta_s, by the very kernels of a pass that is differentiated."""
        if place in self.kept:
            return self.kept[place]
        z = self._logits(batch, {name: p.detach().requires_grad_() for name, p in self.problem.weights.items()})
        z = z.detach()
        if sum(one.numel() * one.element_size() for one in (*self.kept.values(), z)) <= KEPT_BYTES:
            self.kept[place] = z
        return z

    def _logits(self, batch: Batch, weights: Mapping[str, Tensor]) -> Tensor:
        return counted_logits(self.problem.model, batch, weights)
