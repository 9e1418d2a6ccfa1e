"""Do cards foretell what retraining would say? Dials against linear datamodeling scores, over many cells.

    python benchmarks/card/foretell.py --work runs/banks [--members 32] [--workers 2] [--models copying grammar ...]

A cell is a model, a method and its hyper-parameters. For each: the cheap card, as `Run.verify` gives it, which never
retrains; and the linear datamodeling score on a bank of the model retrained on random halves of its rows, which the
card knows nothing of. Then, over all cells: the rank correlation of the card's overall number with the LDS.

| model | rows | fine-tune |
|---|---|---|
| copying | 120, copy one of four words, no word twice | all weights, 6 epochs |
| copying, early | the same | stopped after one epoch |
| copying, LoRA | the same | rank 8, 6 epochs |
| grammar | 100, name the rule of a sentence | LoRA, rank 8, 12 epochs |
| grammar, early | the same | stopped after 2 epochs |
| documents | 120 pieces of 24 documents of Python's reference | all weights, 3 epochs |

Intervals: 95 %, bootstrap over models and over the methods of each. The number is that of `Card.overall`; besides it,
each dial alone. What is there is not made again. Tasks and recipes are those of `banks.py`, and so are two banks.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from scipy.stats import spearmanr

import whence
from whence.base.files import atomic_file, read_json, write_json
from whence.models.build import build_model, pretrain, save, train_tokenizer
from whence.models.corpus import default_documents
from whence.run.run import Run
from whence.tasks.interval import plain
from whence.tasks.synthetic import write_task
from whence.tasks.task import Task, class_task
from whence.truth.lds import linear_datamodeling
from whence.truth.subsets import random_subsets

sys.path.insert(0, str(Path(__file__).parents[1]))
from banks import copying, grammar  # the same tasks and recipes

matplotlib.use("Agg")  # no screen needed
from matplotlib import pyplot

METHODS = ("random", "tfidf", "repsim", "gradient-dot", "diagonal", "kfac", "ekfac(damping=0.01)", "ekfac",
           "ekfac(damping=10.0)", "ekfac(draws=16)", "datainf", "fisher(damping=0.1)")
DOCUMENTS, PIECES, LENGTH, ASKED = 24, 6, 220, 16  # a document's last piece is asked for, the others are trained on


def documents(folder: Path) -> tuple[Task, whence.Recipe]:
    """A small language model on pieces of texts: here words do say something."""
    texts = [text for text in default_documents() if len(text) > 2 * PIECES * LENGTH]
    chosen, others = texts[:DOCUMENTS], texts[DOCUMENTS:]
    pieces = [[text[i * LENGTH : (i + 1) * LENGTH] for i in range(PIECES)] for text in chosen]
    rows = [[{"prompt": piece[:2], "completion": piece[2:], "group": f"document {d}"} for d, of in enumerate(pieces)
             for piece in some(of)] for some in (lambda of: of[:-1], lambda of: of[-1:])]
    if not (folder / "base" / "config.json").exists():
        tokenizer = train_tokenizer(others, 800)
        model = build_model("llama", tokenizer, width=64, layers=3, context=256)
        pretrain(model, tokenizer, others, steps=200, batch=16, length=96, lr=2e-3)
        save(model, tokenizer, folder / "base")
    return (class_task(rows[0], rows[1][:ASKED], name="documents"),
            whence.Recipe(tune="full", learning_rate=1e-3, epochs=3, batch_size=12, schedule="cosine",
                          warmup_ratio=0.05))


LORA = {"tune": "lora", "rank": 8, "alpha": 16, "learning_rate": 5e-3}
MODELS: dict[str, tuple[str, Any, dict[str, Any]]] = {
    "copying": ("copying", copying, {}), "copying, early": ("copying", copying, {"epochs": 1}),
    "copying, LoRA": ("copying", copying, LORA), "documents": ("documents", documents, {}),
    "grammar": ("grammar", grammar, {}), "grammar, early": ("grammar", grammar, {"epochs": 2})}


def model_run(name: str, work: Path) -> tuple[Run, Path]:
    """The fine-tune of a model, made where it is not there; and its queries."""
    shared, make, change = MODELS[name]
    folder = work / shared
    task, recipe = make(folder)
    if not (folder / "data" / "train.jsonl").exists():
        write_task(task, folder / "data")
    place = folder / ("run" if not change else f"run-{name.split(', ')[1]}")
    whence.fine_tune(folder / "base", folder / "data" / "train.jsonl", place, replace(recipe, **change))
    return Run.load(place), folder / "data" / "queries.jsonl"


def happened(name: str, work: Path, members: int, workers: int) -> dict[str, Any]:
    """LDS of every method on the bank of a model."""
    run, asked = model_run(name, work)
    scored = run.score(asked, METHODS)
    found = run.bank().outcomes(random_subsets(len(run.train), members), scored.queries, workers=workers, threads=1)
    values = {method: one.values for method, one in scored.scores.items()}
    lds = linear_datamodeling(values, found.kept, found.values)
    return {label: {"lds": lds.scores[method].to_json()} for label, method in zip(METHODS, values, strict=True)}


def foretold(name: str, method: str, work: Path) -> dict[str, Any]:
    """The cheap card of a method on a model."""
    run, asked = model_run(name, work)
    start = time.monotonic()
    card = run.verify(asked, method, "cheap")
    dials = {dial.name: {"value": plain(dial.value), "reading": dial.reading.name.lower()} for dial in card.dials}
    return {"overall": plain(card.overall), "verdict": card.verdict.answer, "dials": dials,
            "seconds": time.monotonic() - start}


def agreement(cells: Sequence[dict[str, Any]], told: np.ndarray, resamples: int = 1000) -> dict[str, Any]:
    """Rank correlation over cells; interval by drawing models, and methods within them, anew."""
    lds = np.array([one["lds"] for one in cells])
    known = np.isfinite(told)
    names = sorted({one["model"] for one in cells})
    of = {name: np.array([i for i, one in enumerate(cells) if one["model"] == name and known[i]], dtype=int)
          for name in names}
    rng, drawn = np.random.default_rng(0), []

    def rho(at: np.ndarray) -> float:
        return float(spearmanr(told[at], lds[at]).statistic) if len(at) > 2 and np.ptp(told[at]) > 0 else float("nan")

    for _ in range(resamples):
        some = [of[name] for name in rng.choice(names, len(names))]
        parts = [rng.choice(part, len(part)) for part in some if len(part)]
        drawn.append(rho(np.concatenate(parts)) if parts else float("nan"))
    within = {name: plain(rho(of[name])) for name in names}
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return {"value": rho(np.flatnonzero(known)), "low": low, "high": high, "cells": int(known.sum()), "within": within}


def table(found: dict[str, Any]) -> str:
    """Markdown."""
    def cell(one: dict[str, Any]) -> str:
        return f"{one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"

    def shown(x: float | None) -> str:
        return "-" if x is None else f"{x:.2f}"

    names = list(dict.fromkeys(one["model"] for one in found["cells"]))
    lines = [f"| number | cells | rank correlation with LDS, all cells | {' | '.join(names)} |",
             f"|---|---|---|{'---|' * len(names)}"]
    for name, one in found["agreement"].items():
        within = " | ".join(shown(one["within"][model]) for model in names)
        lines.append(f"| {name} | {one['cells']} | {cell(one)} | {within} |")
    lines += ["", f"| method | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    of = {(one["model"], one["method"]): one for one in found["cells"]}
    for method in METHODS:
        cells = [of.get((model, method)) for model in names]
        told = ["-" if one is None else f"{one['lds']:.2f}; {shown(one['overall'])}, {one['verdict']}" for one in cells]
        lines.append(f"| `{method}` | {' | '.join(told)} |")
    return "\n".join(lines) + "\n"


def plot(cells: Sequence[dict[str, Any]], path: Path) -> None:
    """The overall number against the LDS, a colour a model."""
    figure, axes = pyplot.subplots(figsize=(6.4, 4.8))
    for name in dict.fromkeys(one["model"] for one in cells):
        mine = [one for one in cells if one["model"] == name]
        spread = np.array([[one["lds"] - one["lds_low"], one["lds_high"] - one["lds"]] for one in mine]).T.clip(0)
        told = np.array([one["overall"] for one in mine], dtype=float)
        axes.errorbar(told, [one["lds"] for one in mine], yerr=spread, fmt="o", ms=4, lw=0.6, label=name)
    axes.axhline(0, color="0.8", lw=0.8, zorder=0)
    axes.set_xlabel("overall number of the cheap card (expected rank correlation; no retraining)")
    axes.set_ylabel("linear datamodeling score (Spearman), 95 % interval")
    axes.legend(fontsize=8)
    figure.tight_layout()
    with atomic_file(path) as part:
        figure.savefig(part, format="png", dpi=150)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="where bases, runs and banks are kept")
    parser.add_argument("--members", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "results" / "foretell",
                        help="without its ending")
    options = parser.parse_args(arguments)
    os.environ["WHENCE_PROGRESS"] = "0"
    kept = options.out.with_name(options.out.name + "-cells.json")
    made: dict[str, Any] = read_json(kept) if kept.exists() else {}
    for name in options.models:
        if not any(key.startswith(f"{name} | ") for key in made):
            made |= {f"{name} | {label}": one for label, one in happened(name, options.work, options.members,
                                                                        options.workers).items()}
            write_json(kept, made)
        for method in METHODS:
            one = made[f"{name} | {method}"]
            if "overall" not in one:
                one |= foretold(name, method, options.work)
                write_json(kept, made)
                print(f"{name}, {method}: LDS {one['lds']['value']:.2f}, overall {one['overall']}, {one['verdict']} "
                      f"({one['seconds']:.0f} s)", flush=True)
    cells = [{"model": key.split(" | ")[0], "method": key.split(" | ")[1], **one, "lds": one["lds"]["value"],
              "lds_low": one["lds"]["low"], "lds_high": one["lds"]["high"]} for key, one in made.items()
             if "overall" in one]
    numbers = {"overall": np.array([one["overall"] for one in cells], dtype=float)}
    for dial in dict.fromkeys(name for one in cells for name in one["dials"]):
        numbers[dial] = np.array([one["dials"].get(dial, {}).get("value") for one in cells], dtype=float)
    found = {"members": options.members, "cells": cells,
             "agreement": {name: agreement(cells, told) for name, told in numbers.items()
                           if len(np.unique(told[np.isfinite(told)])) > 2}}
    write_json(options.out.with_suffix(".json"), found)
    with atomic_file(options.out.with_suffix(".md")) as part:
        part.write_text(table(found))
    plot(cells, options.out.with_suffix(".png"))
    print(table(found))


if __name__ == "__main__":
    main()
