"""When do influence estimates foretell leave-one-out? Sweeps over networks, points and solvers on a small problem.

    python benchmarks/pbrf/fragility.py --out benchmarks/results/fragility [--seeds 20] [--workers 2]

After Basu, Pope and Feizi 2020 (arXiv 2006.14651), and after the criticism that validation itself is fragile: Iris, 120
rows for training and 30 for testing, small dense networks trained by L-BFGS on all rows from weights that follow from
the seed. One thing is swept at a time from the base (one hidden layer of 8, tanh, decay .005):

    depth 1, 2, 4, 8 (width 5) with and without decay; width 8, 20, 50; tanh, ReLU, SELU; damping; group size 1, 5, 15

Truth: the change of a test row's loss when training rows are taken out. `warm` goes on from the trained
weights to the minimum, less the same without taking anything out; `cold` trains anew from two other starts, whose
agreement is the noise floor: no estimate can foretell what two truths do not agree on.

Test rows: largest loss, median loss, random. Training rows: largest |influence|, largest loss, random; choosing by
influence truncates what is compared, so all three are shown. Solvers, at the same damping: exact Gauss-Newton, exact
Hessian, EK-FAC (labels from the model), gradient dot. For each seed: Spearman and Pearson of every estimate with both
truths, the largest eigenvalue of the Hessian, the gradient's norm, the largest change of weights. Intervals: 95 %,
bootstrap over seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from predictions import Rows
from problems import Split
from scipy.stats import pearsonr, spearmanr
from sklearn.datasets import load_iris
from torch import Tensor, nn
from torch.func import functional_call, hessian, jacrev

from whence.base.files import atomic_file, write_json
from whence.curvature.damping import Damping
from whence.curvature.kronecker import Curvature
from whence.curvature.solver import Kronecker
from whence.models.blocks import list_blocks
from whence.tasks.interval import bootstrap_mean, plain
from whence.truth.output_loss import CrossEntropy
from whence.truth.responses import Problem, Responses, flat_weights

TRAIN, TEST, POINTS, COLD = 120, 30, 10, 5
ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "selu": nn.SELU}
TEST_CHOICES, TRAIN_CHOICES = ("largest loss", "median loss", "random"), ("influence", "loss", "random")


@dataclass(frozen=True)
class Cell:
    """One network and how it is judged."""

    depth: int = 1
    width: int = 8
    activation: str = "tanh"
    decay: float = 0.005
    damping: float = 0.01
    group: int = 1

    def __str__(self) -> str:
        return ", ".join(f"{name} {value:g}" if not isinstance(value, str) else value
                         for name, value in asdict(self).items())


CELLS = (*(Cell(depth=depth, width=5) for depth in (1, 2, 4)), Cell(), Cell(width=20),
         *(Cell(depth=depth, width=5, decay=0.0) for depth in (1, 2, 4)),
         *(Cell(depth=8, width=5, decay=decay) for decay in (0.0, 0.005)), Cell(width=50),
         *(Cell(depth=2, activation=name) for name in ("relu", "selu")),
         *(Cell(damping=damping) for damping in (1e-4, 1.0)), *(Cell(group=group) for group in (5, 15)))


def network(cell: Cell) -> nn.Sequential:
    """Dense layers, float64."""
    layers: list[nn.Module] = []
    for place in range(cell.depth):
        layers += [nn.Linear(4 if place == 0 else cell.width, cell.width), ACTIVATIONS[cell.activation]()]
    return nn.Sequential(*layers, nn.Linear(cell.width, 3)).double()


def run(cell: Cell, seed: int) -> dict[str, Any]:
    """One cell with one seed."""
    torch.set_num_threads(1)
    start = time.monotonic()
    x, y = load_iris(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    rng = np.random.default_rng([seed, 11])
    order = rng.permutation(len(x))
    train, test = (Split(torch.from_numpy(x[rows]), torch.from_numpy(y[rows]))
                   for rows in (order[:TRAIN], order[TRAIN:]))
    torch.manual_seed(seed)
    model = network(cell)
    problem = Problem.of_network(model, train.x, train.y, CrossEntropy(), cell.decay)
    tested = Problem.of_network(model, test.x, test.y, CrossEntropy())

    def fit(theta: Tensor, removed: Sequence[int] | np.ndarray = ()) -> Tensor:
        return Responses(problem, theta, 1.0, tolerance=1e-4, iterations=200).warm(removed).theta

    theta = fit(flat_weights(model))
    losses, test_losses = (part.losses(theta).detach().numpy() for part in (problem, tested))
    g, v = (jacrev(part.losses)(theta).detach() for part in (problem, tested))  # gradients of losses, [N, P]
    lam = cell.damping + cell.decay
    whole = hessian(lambda w: problem.objective(w, problem.without([])))(theta).detach()
    eye = torch.eye(len(theta), dtype=theta.dtype)
    root = CrossEntropy().root(problem.forward(theta).detach())  # [N, C, C]
    J = jacrev(problem.forward)(theta).detach()  # [N, C, P]
    B = torch.einsum("ncd,ndp->ncp", root, J).flatten(0, 1)
    inverses: dict[str, Tensor] = {"gradient dot": eye / lam,
                                   "Gauss-Newton": torch.linalg.inv(B.T @ B / TRAIN + lam * eye),
                                   "Hessian": torch.linalg.inv(whole + cell.damping * eye)}
    estimates = {name: (v @ inverse @ g.T).numpy() / TRAIN for name, inverse in inverses.items()}
    _put(model, theta)
    situation = Rows.of(model, CrossEntropy(), train, exact=False)
    solver = Kronecker(Curvature("ekfac", rows=-1, seed=seed), Damping(lam, "absolute"))
    parts = [part.clone() for part in v.split([block.parameters for block in situation.blocks], dim=1)]
    solved = torch.cat([part.whole() for part in solver.solve(parts, situation).vectors], dim=1)
    estimates["EK-FAC"] = (solved @ g.T).numpy() / TRAIN

    # both of losses: estimates of what taking rows out adds to them, and what it does add
    ranked = np.argsort(-test_losses)
    asked = {"largest loss": int(ranked[0]), "median loss": int(ranked[TEST // 2]), "random": int(rng.integers(TEST))}
    groups: dict[tuple[str, str], list[np.ndarray]] = {}
    for choice, q in asked.items():
        by = {"influence": np.argsort(-np.abs(estimates["Gauss-Newton"][q])), "loss": np.argsort(-losses),
              "random": rng.permutation(TRAIN)}
        for how, first in by.items():
            groups[choice, how] = [np.sort(first[i * cell.group : (i + 1) * cell.group])
                                   for i in range(min(POINTS, TRAIN // cell.group))]
    wanted = {tuple(rows) for lists in groups.values() for rows in lists}
    control = fit(theta)
    warm = {rows: (tested.losses(fit(theta, rows)) - tested.losses(control)).detach().numpy() for rows in wanted}
    some = [tuple(rows) for rows in groups["random", "random"][:COLD]]
    cold = []
    for other in (1, 2):
        torch.manual_seed(seed + 1000 * other)
        fresh = flat_weights(network(cell))
        base = fit(fresh)
        cold.append(np.stack([(tested.losses(fit(fresh, rows)) - tested.losses(base)).detach().numpy()
                              for rows in some]))
    found: dict[str, Any] = {}
    for (choice, how), lists in groups.items():
        q = asked[choice]
        truth = np.array([warm[tuple(rows)][q] for rows in lists])
        for name, scores in estimates.items():
            told = np.array([scores[q, rows].sum() for rows in lists])
            found[f"{choice} | {how} | {name}"] = [plain(_correlation(spearmanr, told, truth)),
                                                   plain(_correlation(pearsonr, told, truth))]
    told_cold = np.stack([estimates["Gauss-Newton"][:, list(rows)].sum(axis=1) for rows in some])
    floor = [_correlation(spearmanr, cold[0][:, q], cold[1][:, q]) for q in asked.values()]
    with_cold = [_correlation(spearmanr, told_cold[:, q], np.mean(cold, axis=0)[:, q]) for q in asked.values()]
    gradient = torch.autograd.functional.jacobian(lambda w: problem.objective(w, problem.without([])), theta)
    return {"cell": str(cell), "seed": seed, "correlations": found, "noise floor": plain(float(np.mean(floor))),
            "with cold starts": plain(float(np.mean(with_cold))),
            "top eigenvalue": float(torch.linalg.eigvalsh(whole)[-1]),
            "least eigenvalue": float(torch.linalg.eigvalsh(whole)[0]), "gradient": float(gradient.norm()),
            "loss": float(losses.mean()), "accuracy": float(np.mean(
                functional_call(model, {}, (test.x,)).argmax(dim=1).numpy() == test.y.numpy())),
            "seconds": time.monotonic() - start}


def _put(model: nn.Module, theta: Tensor) -> None:
    for p, part in zip(model.parameters(), theta.split([p.numel() for p in model.parameters()]), strict=True):
        p.data.copy_(part.view(p.shape))
    assert len(list_blocks(model)) * 2 == len(list(model.parameters()))


def _correlation(measure: Callable[..., Any], a: np.ndarray, b: np.ndarray) -> float:
    """NaN where one side does not vary."""
    return float(measure(a, b).statistic) if np.ptp(a) > 0 and np.ptp(b) > 0 else float("nan")


def spearman(one: dict[str, Any], how: str, name: str, choices: Sequence[str] = TEST_CHOICES) -> float:
    """Mean over test rows of a seed; NaN where none has one."""
    found = [one["correlations"][f"{choice} | {how} | {name}"][0] for choice in choices]
    known = [value for value in found if value is not None]
    return float(np.mean(known)) if known else float("nan")


def table(runs: Sequence[dict[str, Any]]) -> str:
    """Markdown: Spearman with warm leave-one-out by network; then of the base by test row and training rows."""
    def mean(values: Sequence[float | None]) -> str:
        return str(bootstrap_mean(np.array(values, dtype=float)))

    heads = ["network", "seeds", *[f"{how}: {name}" for how in ("influence", "random")
                                   for name in ("Gauss-Newton", "EK-FAC", "gradient dot")],
             "cold truth, Gauss-Newton", "two cold truths", "top eigenvalue", "gradient norm"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for cell in map(str, CELLS):
        mine = [one for one in runs if one["cell"] == cell]
        if mine:
            row = [cell, str(len(mine))]
            row += [mean([spearman(one, how, name) for one in mine]) for how in ("influence", "random")
                    for name in ("Gauss-Newton", "EK-FAC", "gradient dot")]
            row += [mean([one[name] for one in mine]) for name in ("with cold starts", "noise floor")]
            row += [f"{np.median([one[name] for one in mine]):.2g}" for name in ("top eigenvalue", "gradient")]
            lines.append(f"| {' | '.join(row)} |")
    base = [one for one in runs if one["cell"] == str(Cell())]
    solvers = ("Gauss-Newton", "Hessian", "EK-FAC", "gradient dot")
    lines += ["", f"| test row | training rows | {' | '.join(solvers)} |", f"|---|---|{'---|' * len(solvers)}"]
    for choice in TEST_CHOICES:
        for how in TRAIN_CHOICES:
            row = [mean([spearman(one, how, name, [choice]) for one in base]) for name in solvers]
            lines.append(f"| {choice} | {how} | {' | '.join(row)} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="without its ending")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args(arguments)
    os.environ["WHENCE_PROGRESS"] = "0"
    path = options.out.with_suffix(".json")
    runs: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    there = {(one["cell"], one["seed"]) for one in runs}
    left = [(cell, seed) for cell in CELLS for seed in range(options.seeds) if (str(cell), seed) not in there]
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
        for future in as_completed([pool.submit(run, cell, seed) for cell, seed in left]):
            runs.append(future.result())
            write_json(path, runs)
            print(f"{runs[-1]['cell']}, seed {runs[-1]['seed']}: {runs[-1]['seconds']:.0f} s", flush=True)
    with atomic_file(options.out.with_suffix(".md")) as part:
        part.write_text(table(runs))
    print(table(runs))


if __name__ == "__main__":
    main()
