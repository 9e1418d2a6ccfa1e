"""Two small problems and their networks, trained: what the proximal Bregman response function is computed on.

| problem | data (scikit-learn) | network | loss |
|---|---|---|---|
| regression | diabetes, 442 x 10, inputs and target standardised | 10-128-128-1, tanh | 1/2 (h - y)^2 |
| classification | digits, 1,797 x 64, pixels standardised together | 64-64-64-10, ReLU | cross-entropy of the softmax |

Split 70 / 20 / 10 into training, validation and test; SGD with momentum 0.9 and batches of 128; learning rate and
weight decay are those with the least validation loss on a grid. All in float64 (Grosse et al. 2023, appendix C, has
wider networks on other data of the same kind).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from sklearn.datasets import load_diabetes, load_digits
from torch import Tensor, nn

from whence.truth.output_loss import CrossEntropy, SquaredError
from whence.truth.output_loss import OutputLoss as Loss

BATCH, MOMENTUM = 128, 0.9
RATES, DECAYS = (0.01, 0.1), (1e-4, 1e-3, 1e-2)


@dataclass(frozen=True)
class Split:
    """Rows x [n, features] with y [n, C] or int [n]."""

    x: Float[Tensor, "n features"]
    y: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def at(self, rows: Tensor | np.ndarray) -> Split:
        """Some of the rows."""
        return Split(self.x[rows], self.y[rows])


@dataclass(frozen=True)
class Problem:
    """Data, loss and how a fresh network is made."""

    name: str
    loss: Loss
    train: Split
    validation: Split
    test: Split
    network: Callable[[], nn.Sequential]
    epochs: int


@dataclass(frozen=True)
class Trained:
    """The network with the least validation loss (a mean over rows), and of which rate and decay."""

    model: nn.Sequential
    rate: float
    decay: float
    train_loss: float
    validation_loss: float


def regression(seed: int, width: int = 128) -> Problem:
    """The diabetes data, split by the seed."""
    x, y = load_diabetes(return_X_y=True)
    x, y = _standard(x), _standard(y[:, None])
    return _problem("regression", SquaredError(), x, y, seed, (width, nn.Tanh), 1, epochs=150)


def classification(seed: int, width: int = 64) -> Problem:
    """The digits data, split by the seed."""
    x, y = load_digits(return_X_y=True)
    x = (x - x.mean()) / x.std()  # one mean for all pixels: those at the edge are nearly always white
    return _problem("classification", CrossEntropy(), x, y, seed, (width, nn.ReLU), 10, epochs=30)


def train(problem: Problem, seed: int) -> Trained:
    """The best of the grid; initial weights and batches follow from the seed."""
    found = [_run(problem, seed, rate, decay) for rate in RATES for decay in DECAYS]
    return min(found, key=lambda one: one.validation_loss if np.isfinite(one.validation_loss) else np.inf)


def network(inputs: int, width: int, outputs: int, activation: type[nn.Module]) -> nn.Sequential:
    """Two hidden layers, float64."""
    return nn.Sequential(nn.Linear(inputs, width), activation(), nn.Linear(width, width), activation(),
                         nn.Linear(width, outputs)).double()


def _run(problem: Problem, seed: int, rate: float, decay: float) -> Trained:
    torch.manual_seed(seed)
    model, data, rng = problem.network(), problem.train, np.random.default_rng(seed)
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=MOMENTUM, weight_decay=decay)
    for _ in range(problem.epochs):
        for rows in np.array_split(rng.permutation(len(data)), max(1, round(len(data) / BATCH))):
            optimizer.zero_grad()
            problem.loss.value(model(data.x[rows]), data.y[rows]).mean().backward()
            optimizer.step()
    with torch.no_grad():
        losses = [float(problem.loss.value(model(part.x), part.y).mean()) for part in (data, problem.validation)]
    return Trained(model.eval().requires_grad_(False), rate, decay, losses[0], losses[1])


def _problem(name: str, loss: Loss, x: np.ndarray, y: np.ndarray, seed: int, hidden: tuple[int, type[nn.Module]],
             outputs: int, epochs: int) -> Problem:
    order = np.random.default_rng(seed).permutation(len(x))
    first, second = round(0.7 * len(x)), round(0.9 * len(x))
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y)
    parts = [Split(inputs[rows], labels[rows]) for rows in (order[:first], order[first:second], order[second:])]
    return Problem(name, loss, parts[0], parts[1], parts[2],
                   lambda: network(x.shape[1], hidden[0], outputs, hidden[1]), epochs)


def _standard(x: np.ndarray) -> np.ndarray:
    return (x - x.mean(0)) / x.std(0)
