"""The five gaps on convex problems, small networks and a small language model: which of them dominate?

    python benchmarks/pbrf/gaps.py --out benchmarks/results/gaps [--seeds 5] [--problems ridge logistic ...]
    python benchmarks/pbrf/gaps.py --out benchmarks/results/gaps-convex --problems ridge logistic --share 0.001 --exact

| problem | data | model |
|---|---|---|
| ridge | diabetes, 120 rows | linear |
| logistic | digits, 120 rows, 10 classes | linear softmax |
| MLP, regression | diabetes, 120 rows | 10-16-16-1, tanh |
| MLP, classification | digits, 120 rows | 64-12-12-10, tanh |
| language model | sentence rules, 48 rows | LLaMA architecture, 1 layer, width 16; all of its linear layers |

Training: Adam on all rows at once, from weights that follow from the seed; ridge and logistic end in the minimum (by
L-BFGS), the others after a number of steps. Taken out: four random rows alone, two groups of 5 and two of 10 % of the
rows. r0 trains in the same way from other weights. lambda is the mean eigenvalue of the Gauss-Newton matrix (0.1 of it
for the linear models), the same for every response; the practical estimate is EK-FAC with labels drawn from the model.
Distances in outputs are over 40 rows that are not trained on. Intervals: 95 %, bootstrap over seeds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from predictions import Rows
from problems import Split
from sklearn.datasets import load_diabetes, load_digits
from torch import Tensor, nn

from whence.base.files import atomic_file, read_json, write_json
from whence.curvature.damping import Damping
from whence.curvature.fit import Situation
from whence.curvature.kronecker import Curvature
from whence.curvature.solver import Kronecker
from whence.data.encode import load_examples
from whence.models.blocks import Block, list_blocks
from whence.models.build import build_model, train_tokenizer
from whence.tasks.grammar import grammar_task
from whence.tasks.interval import bootstrap_mean
from whence.truth.gaps import GAPS, NAMES, five_gaps
from whence.truth.output_loss import CrossEntropy, SquaredError
from whence.truth.responses import Forward, Problem, Responses, flat_weights

matplotlib.use("Agg")  # no screen needed
from matplotlib import pyplot

ROWS, HELD_OUT, TIGHT = 120, 40, 1e-9


@dataclass(frozen=True)
class Case:
    """One problem with everything that differs between problems.

    Attributes:
        problem: the training rows.
        fresh: flat weights from a seed.
        steps: of Adam; 0 trains to the minimum.
        rate: of Adam.
        outputs, losses: on rows that are not trained on.
        situation: for the practical curvature.
        damping: lambda in mean eigenvalues.
        iterations: of L-BFGS, at most.
    """

    problem: Problem
    fresh: Callable[[int], Tensor]
    steps: int
    rate: float
    outputs: Forward
    losses: Callable[[Tensor], Tensor]
    situation: Situation
    damping: float
    iterations: int


def table_case(name: str, seed: int) -> Case:
    """A linear model or an MLP on rows of numbers."""
    classes = name in ("logistic", "MLP, classification")
    x, y = (load_digits if classes else load_diabetes)(return_X_y=True)
    x = (x - x.mean(0)) / np.where(x.std(0) > 0, x.std(0), 1)
    y = y if classes else ((y - y.mean()) / y.std())[:, None]
    order = np.random.default_rng([seed, 7]).permutation(len(x))
    inputs, labels = torch.from_numpy(x), torch.from_numpy(y)
    parts = [Split(inputs[rows], labels[rows]) for rows in (order[:ROWS], order[ROWS : ROWS + HELD_OUT])]
    features, outputs, loss = x.shape[1], 10 if classes else 1, CrossEntropy() if classes else SquaredError()
    width = 12 if classes else 16

    def network() -> nn.Sequential:
        if name in ("ridge", "logistic"):
            return nn.Sequential(nn.Linear(features, outputs)).double()
        return nn.Sequential(nn.Linear(features, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(),
                             nn.Linear(width, outputs)).double()

    def fresh(of_seed: int) -> Tensor:
        torch.manual_seed(of_seed)
        return flat_weights(network())

    model, convex = network(), name in ("ridge", "logistic")
    decay = 0.01 if convex else 1e-3
    train, held = (Problem.of_network(model, part.x, part.y, loss, decay) for part in parts)
    return Case(train, fresh, 0 if convex else 400, 0.01, held.forward, held.losses,
                Rows.of(model, loss, parts[0], exact=False), 0.1 if convex else 1.0, 4000)


def language_case(seed: int) -> Case:
    """A language model of one layer on sentence rules."""
    task = grammar_task(n_classes=4, train_per_class=12, queries_per_class=10, seed=seed)
    rows = [[{"prompt": row["prompt"], "completion": row["completion"]} for row in part]
            for part in (task.train, task.queries)]
    tokenizer = train_tokenizer([row["prompt"] + row["completion"] for row in rows[0]], 320)

    def network(of_seed: int) -> nn.Module:
        model = build_model("llama", tokenizer, width=16, layers=1, heads=2, context=64, seed=of_seed).double().eval()
        model.requires_grad_(False)
        for block in list_blocks(model):
            block.module.requires_grad_(True)
        return model

    model = network(seed)
    model.set_attn_implementation("eager")  # has forward derivatives
    examples, held = (load_examples(part, tokenizer) for part in rows)
    train, others = (Problem.of_language_model(model, part, decay=1e-3) for part in (examples, held))

    def fresh(of_seed: int) -> Tensor:  # the blocks alone start anew: embeddings are not trained here
        return flat_weights(network(of_seed))

    return Case(train, fresh, 300, 0.01, others.forward, others.losses,
                Situation(model, examples, list_blocks(model)), 1.0, 600)


CASES = ("ridge", "logistic", "MLP, regression", "MLP, classification", "language model")


def trained(case: Case, start: Tensor, removed: Sequence[int] | np.ndarray = (), share: float = 1.0) -> Tensor:
    """The training of a case, without some rows."""
    weights = case.problem.without(removed, share)
    if case.steps == 0:
        return Responses(case.problem, start, 1.0, tolerance=TIGHT, iterations=case.iterations,
                         share=share).warm(removed).theta
    theta = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([theta], lr=case.rate)
    for step in range(case.steps):
        optimizer.param_groups[0]["lr"] = case.rate * (1 - step / case.steps)
        optimizer.zero_grad()
        case.problem.objective(theta, weights).backward()
        optimizer.step()
    return theta.detach()


def put(blocks: Sequence[Block], theta: Tensor) -> None:
    """Flat weights into the modules: of every block its weight row by row, then its bias."""
    for block, part in zip(blocks, theta.split([block.parameters for block in blocks]), strict=True):
        block.module.weight.data.copy_(part[: block.outputs * block.inputs].view(block.outputs, block.inputs))
        if block.bias:
            block.module.bias.data.copy_(part[block.outputs * block.inputs :])


def run(name: str, seed: int, share: float = 1.0, exact: bool = False) -> dict[str, Any]:
    """One seed of one problem; `share` of the weight of the rows is taken out; the practical estimate may be exact."""
    torch.set_num_threads(1)
    start = time.monotonic()
    case = language_case(seed) if name == "language model" else table_case(name, seed)
    problem, blocks = case.problem, case.situation.blocks
    theta = trained(case, case.fresh(seed))
    put(blocks, theta)
    sizes = [block.parameters for block in blocks]
    ekfac = Curvature("ekfac", rows=-1, seed=seed)
    fitted = case.situation.fit(ekfac)
    mean = float(np.average([b.mean for b in fitted.blocks], weights=sizes))
    lam = case.damping * mean
    solver = Kronecker(ekfac, Damping(lam + problem.decay, "absolute"))

    def practical(v: Tensor) -> Tensor:
        parts = [part[None].clone() for part in v.split(sizes)]
        return torch.cat([part.whole()[0] for part in solver.solve(parts, case.situation).vectors])

    responses = Responses(problem, theta, lam, tolerance=TIGHT if share < 1 else 1e-6, iterations=case.iterations,
                          exactness=1e-5 if name == "language model" else 1e-10, share=share)
    rng, n = np.random.default_rng([seed, 3]), problem.rows
    removed = [rng.permutation(n)[:k] for k in (1, 1, 1, 1, *2 * [max(2, n // 20)], *2 * [max(3, n // 10)])]
    cold = case.fresh(seed + 1000)
    found = five_gaps(responses, removed, lambda rows: trained(case, cold, rows, share), case.outputs,
                      lambda weights: -case.losses(weights).detach().numpy(),
                      responses.exact_inverse if exact else practical)
    with torch.no_grad():
        start_loss, end_loss = (float(problem.losses(w).mean()) for w in (case.fresh(seed), theta))
    stationary = torch.autograd.functional.jacobian(lambda w: problem.objective(w, problem.without([])), theta)
    return {"problem": name, "seed": seed, "lambda": lam, "rows": n, "parameters": len(theta),
            "loss": [start_loss, end_loss], "gradient": float(stationary.norm()) / responses.size,
            "sets": [len(rows) for rows in removed],
            "output": {gap: found.output[gap].tolist() for gap in GAPS}, "total": found.total_output.tolist(),
            "parameter": {gap: found.parameter[gap].tolist() for gap in GAPS},
            "total_parameter": found.total_parameter.tolist(), "correlations": found.correlations(),
            "left": float(found.left.max()), "seconds": time.monotonic() - start}


def table(runs: Sequence[dict[str, Any]]) -> str:
    """Markdown: gaps in outputs (mean over sets, then seeds), then correlations."""
    names = [name for name in CASES if any(one["problem"] == name for one in runs)]
    lines = [f"| | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]

    def row(title: str, of_run: Callable[[dict[str, Any]], float]) -> None:
        cells = []
        for name in names:
            found = bootstrap_mean(np.array([of_run(one) for one in runs if one["problem"] == name]))
            cells.append(f"{found.value:.2g} [{found.low:.2g}, {found.high:.2g}]")
        lines.append(f"| {title} | {' | '.join(cells)} |")

    for part, title in (("output", "outputs"), ("parameter", "weights")):
        for gap in GAPS:
            row(f"{gap} gap, {title}", lambda one, part=part, gap=gap: float(np.mean(one[part][gap])))
    row("r0 to r5, outputs", lambda one: float(np.mean(one["total"])))
    for name in NAMES[:-1]:
        row(f"correlation of r5 with {name}", lambda one, name=name: one["correlations"][name])
    row("gradient of J at theta_s, in rows", lambda one: one["gradient"])
    row("most gradient left in a minimum, in rows", lambda one: one["left"])
    row("loss a row after training", lambda one: one["loss"][1])
    return "\n".join(lines) + "\n"


def plot(runs: Sequence[dict[str, Any]], path: Path) -> None:
    """Gaps in outputs, a panel a problem."""
    names = [name for name in CASES if any(one["problem"] == name for one in runs)]
    figure, panels = pyplot.subplots(1, len(names), figsize=(3.1 * len(names), 3.6), squeeze=False)
    for axes, name in zip(panels[0], names, strict=True):
        mine = [one for one in runs if one["problem"] == name]
        found = [bootstrap_mean(np.array([np.mean(one["output"][gap]) for one in mine])) for gap in GAPS]
        values = np.array([[e.value, e.low, e.high] for e in found])
        errors = np.stack([values[:, 0] - values[:, 1], values[:, 2] - values[:, 0]]).clip(0)
        axes.errorbar(range(len(GAPS)), values[:, 0].clip(1e-16), yerr=errors, fmt="o", capsize=3)
        axes.set_yscale("log")
        axes.set_xticks(range(len(GAPS)), GAPS, rotation=60, ha="right", fontsize=8)
        axes.set_title(f"{name}, {len(mine)} seeds", fontsize=9)
    panels[0][0].set_ylabel("distance in outputs (root mean square),\nmean and 95 % interval over seeds", fontsize=8)
    figure.tight_layout()
    with atomic_file(path) as part:
        figure.savefig(part, format="png", dpi=150)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="without its ending")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--problems", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--share", type=float, default=1.0, help="of the rows' weight that is taken out")
    parser.add_argument("--exact", action="store_true", help="r5 with the exact inverse too")
    options = parser.parse_args(arguments)
    path = options.out.with_suffix(".json")
    runs: list[dict[str, Any]] = read_json(path) if path.exists() else []
    there = {(one["problem"], one["seed"]) for one in runs}
    for name in options.problems:
        for seed in range(options.seeds):
            if (name, seed) not in there:
                runs.append(run(name, seed, options.share, options.exact))
                write_json(path, runs)
                print(f"{name}, seed {seed}: {runs[-1]['seconds']:.0f} s", flush=True)
    with atomic_file(options.out.with_suffix(".md")) as part:
        part.write_text(table(runs))
    plot(runs, options.out.with_suffix(".png"))
    print(table(runs))


if __name__ == "__main__":
    main()
