"""Do influence scores foretell the proximal Bregman response? Pearson correlations on two small problems.

Protocol of Grosse et al. 2023, appendix C: for random training points, the change of one random test point's loss when
the point's weight rises by eps and the proximal Bregman objective is minimised anew (`response.py`), against what each
method predicts (`predictions.py`). Each repeat draws split, initial weights, training points and test point anew and
trains anew. lambda is the same for the objective and for every method.

    python benchmarks/pbrf/pbrf.py --out benchmarks/results/pbrf

writes OUT.json (every repeat), OUT.md (the table) and OUT.png. What a repeat found is written as soon as it is there,
and the same command goes on where it stopped. Intervals are 95 % percentile bootstraps over repeats.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from predictions import curvature_rows, predict
from problems import Problem, Trained, classification, regression, train
from response import ROUNDING, TOLERANCE, Objective, Response

from whence.base.files import atomic_file, read_json, write_json
from whence.curvature.damping import Damping
from whence.tasks.interval import Estimate, bootstrap_mean

matplotlib.use("Agg")  # no screen needed
from matplotlib import pyplot

PROBLEMS = {"regression": regression, "classification": classification}
DAMPINGS = (1.0, 10.0, 100.0)
WEIGHT = 0.01  # eps in units of 1/N
MULTIPLES = (2, 100)  # of eps, at which linearity is looked at; the latter is one more copy of the point
SHARE = 0.05  # rows of the Gauss-Newton matrix below this share of N lambda are left out of the first matrix of L-BFGS
PAIRS = (("EK-FAC", "gradient dot"), ("EK-FAC", "CG"), ("EK-FAC, all labels", "gradient dot"),
         ("EK-FAC, 10 draws", "gradient dot"), ("EK-FAC, 10 draws", "EK-FAC"),
         ("EK-FAC, all labels", "CG"), ("EK-FAC, all labels", "exact blocks"))


def repeat(problem: Problem, trained: Trained, factor: float, points: int, seed: int) -> dict[str, Any]:
    """One repeat at one damping: correlation of each method with the response, and how good the response is."""
    rng, model, data = np.random.default_rng([seed, 1]), trained.model, problem.train
    chosen = data.at(rng.permutation(len(data))[:points])
    measured = problem.test.at(rng.integers(len(problem.test), size=1))
    scores, facts = predict(model, problem.loss, data, chosen, measured, Damping(factor, "global"), seed)
    lam, eps = facts["lambda"], WEIGHT / len(data)
    B = curvature_rows(model, problem.loss, data, least=SHARE * len(data) * lam)
    objective = Objective(model, problem.loss, data, lam, B)
    response = objective.respond(chosen, eps)
    change = objective.change(response, measured)
    some = np.argsort(-np.abs(change))[: max(1, points // 15)]
    grown = {f"{k} eps": linearity(objective.change(objective.respond(chosen.at(some), k * eps), measured),
                                   k * change[some]) for k in MULTIPLES}
    return {"damping": factor, "seed": seed, "pearson": {name: pearson(s, change) for name, s in scores.items()},
            "slope": {name: float(s @ change * len(data) * eps / (change @ change)) for name, s in scores.items()},
            "minimised": quality(response), "nonlinearity": grown, "change_sd": float(change.std()),
            "rate": trained.rate, "decay": trained.decay, "train_loss": trained.train_loss,
            "validation_loss": trained.validation_loss, "n": len(data), "points": len(chosen), **facts}


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson correlation; a bug if something did not vary or is not finite."""
    found = float(np.corrcoef(x, y)[0, 1])
    if not np.isfinite(found):
        raise ValueError("a prediction or the response does not vary over training points, or is not finite")
    return found


def linearity(found: np.ndarray, expected: np.ndarray) -> float:
    """Median of `|found / expected - 1|`."""
    return float(np.median(np.abs(found / expected - 1)))


def quality(response: Response) -> dict[str, float]:
    """How far the gradient fell, and in how many steps."""
    done = (response.left <= TOLERANCE) | (response.gradient <= ROUNDING)
    return {"points": len(response.left), "at_tolerance": int(done.sum()),
            "left_median": float(np.median(response.left)), "left_most": float(response.left.max()),
            "steps_mean": float(response.steps.mean()), "steps_most": int(response.steps.max())}


def summary(repeats: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Estimate]]:
    """Mean and interval of every method's correlation, and of paired differences."""
    methods = {name: np.array([one["pearson"][name] for one in repeats]) for name in repeats[0]["pearson"]}
    return {"pearson": {name: bootstrap_mean(values) for name, values in methods.items()},
            "difference": {f"{a} - {b}": bootstrap_mean(methods[a] - methods[b]) for a, b in PAIRS}}


def table(found: Mapping[tuple[str, float], Sequence[Mapping[str, Any]]]) -> str:
    """Markdown: a row a method and a difference, a column a problem and damping."""
    columns = {key: summary(repeats) for key, repeats in found.items()}
    heads = [f"{name}, damping {factor:g}" for name, factor in columns]
    lines = ["| | " + " | ".join(heads) + " |",
             "|---|" + "---|" * len(heads)]
    for part in ("pearson", "difference"):
        for name in next(iter(columns.values()))[part]:
            lines.append(f"| {name} | " + " | ".join(str(column[part][name]) for column in columns.values()) + " |")
    counts = [f"{sum(one['minimised']['at_tolerance'] for one in repeats)} / "
              f"{sum(one['minimised']['points'] for one in repeats)}" for repeats in found.values()]
    lines.append("| minimised to 1e-4 of the gradient, n / total | " + " | ".join(counts) + " |")
    for title, path in (("most gradient left", ("minimised", "left_most")),
                        ("non-linearity, 2 eps (median)", ("nonlinearity", "2 eps")),
                        ("non-linearity, 100 eps = 1/N (median)", ("nonlinearity", "100 eps")),
                        ("lambda (median)", ("lambda",))):
        cells = []
        for repeats in found.values():
            values = [one[path[0]] if len(path) == 1 else one[path[0]][path[1]] for one in repeats]
            cells.append(f"{max(values) if path[-1] == 'left_most' else np.median(values):.1e}")
        lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def plot(found: Mapping[tuple[str, float], Sequence[Mapping[str, Any]]], path: Path) -> None:
    """Correlation against damping, a panel a problem."""
    names = list(dict.fromkeys(name for name, _ in found))
    figure, panels = pyplot.subplots(1, len(names), figsize=(5.2 * len(names), 4.4), sharey=True, squeeze=False)
    for axes, problem in zip(panels[0], names, strict=True):
        mine = {factor: summary(repeats)["pearson"] for (name, factor), repeats in found.items() if name == problem}
        shown = [name for name in next(iter(mine.values())) if name not in ("diagonal", "K-FAC", "K-FAC, all labels")]
        for k, method in enumerate(shown):
            values = np.array([[e[method].value, e[method].low, e[method].high] for e in mine.values()])
            errors = np.stack([values[:, 0] - values[:, 1], values[:, 2] - values[:, 0]]).clip(0)
            x = np.array(list(mine)) * 1.06 ** (k - len(shown) / 2)  # side by side
            axes.errorbar(x, values[:, 0], yerr=errors, fmt="o-", capsize=3, label=method)
        axes.set_xscale("log")
        axes.set_xlabel("damping / mean eigenvalue of the Gauss-Newton matrix")
        axes.set_title(f"{problem}, {len(next(iter(found.values())))} repeats")
        axes.axhline(0, color="0.7", linewidth=0.8)
    panels[0][0].set_ylabel("Pearson r with the PBRF, mean, 95 % interval")
    panels[0][-1].legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    with atomic_file(path) as part:
        figure.savefig(part, format="png", dpi=150)
    pyplot.close(figure)


def read(path: Path, points: int) -> tuple[dict[tuple[str, float], list[dict[str, Any]]], float]:
    """Repeats that are there already, and the seconds they took."""
    if not path.exists():
        return {}, 0.0
    told = read_json(path)
    if (told["weight"], told["points"]) != (WEIGHT, points):
        raise SystemExit(f"{path} has eps = {told['weight']} / N and {told['points']} points, and now {WEIGHT} / N and "
                         f"{points} are wanted: name another --out")
    return {(one["problem"], one["damping"]): one["repeats"] for one in told["results"]}, told["seconds"]


def main() -> None:
    """Run the repeats, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/pbrf"), help="without suffix")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--points", type=int, default=150, help="random training points a repeat, at most")
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS), choices=list(PROBLEMS))
    parser.add_argument("--dampings", nargs="+", type=float, default=list(DAMPINGS), help="times the mean eigenvalue")
    args = parser.parse_args()
    os.environ["WHENCE_PROGRESS"] = "0"
    torch.set_num_threads(1)
    found, spent = read(Path(f"{args.out}.json"), args.points)
    start = time.perf_counter() - spent
    for name in args.problems:
        for seed in range(len(found.get((name, args.dampings[-1]), [])), args.repeats):
            problem = PROBLEMS[name](seed)
            trained = train(problem, seed)
            for factor in args.dampings:
                found.setdefault((name, factor), []).append(repeat(problem, trained, factor, args.points, seed))
            seconds = time.perf_counter() - start
            write_json(f"{args.out}.json", {"seconds": seconds, "weight": WEIGHT, "points": args.points, "results": [
                {"problem": key[0], "damping": key[1], "repeats": repeats,
                 "summary": {part: {m: e.to_json() for m, e in group.items()}
                             for part, group in summary(repeats).items()}} for key, repeats in found.items()]})
            print(f"{name}, repeat {seed + 1}/{args.repeats}, {seconds:.0f} s", flush=True)
    text = table(found)
    with atomic_file(f"{args.out}.md") as part:
        part.write_text(text, encoding="utf-8")
    plot(found, Path(f"{args.out}.png"))
    print(text)


if __name__ == "__main__":
    main()
