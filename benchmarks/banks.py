"""Do scores foretell retraining? Every method on banks of fine-tunes, made with the product's own commands.

    python benchmarks/banks.py grammar --work runs/banks [--members 48] [--second 24] [--workers 2]
    python benchmarks/banks.py copying --work runs/banks

| bank | data | fine-tune | what words say |
|---|---|---|---|
| grammar | 5 sentence rules x 20 rows, the rule's name is the answer | LoRA, rank 8, all linear layers | much |
| copying | 4 rules x 30 rows: copy one of four words, no word occurs twice | all weights | nothing, by construction |

Bases are made from scratch: a small Llama on Python's documentation; for copying one that was shown each rule by name
on other words, so that the fine-tune has only to choose among what it can do. Then `whence.fine_tune`, `Run.bank`:
random halves, the same halves in another order from another start (for the ceiling), and the first k rows of five
methods left out for each of some queries. Writes results/banks-NAME.json and .md. What is there is not made again.
"""

from __future__ import annotations

import argparse
import platform
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import whence
from whence.base.files import atomic_file, write_json
from whence.methods.catalogue import standard_calls
from whence.models.build import build_model, pretrain, save, train_tokenizer
from whence.models.corpus import default_documents
from whence.run.run import Run
from whence.tasks.copying import PLACES, copying_task, example, made_up_word
from whence.tasks.grammar import grammar_task
from whence.tasks.synthetic import write_task
from whence.tasks.task import Task
from whence.truth.brittleness import brittleness
from whence.truth.lds import linear_datamodeling
from whence.truth.leave_out import leave_out_agreement
from whence.truth.subsets import all_rows, leave_out, random_subsets

RESULTS = Path(__file__).parent / "results"
REMOVERS = ("ekfac", "gradient-dot", "repsim", "tfidf")


def grammar(folder: Path) -> tuple[Task, whence.Recipe]:
    """Base, data and recipe of the LoRA bank."""
    task = grammar_task(n_classes=5, train_per_class=20, queries_per_class=4)
    if not (folder / "base" / "config.json").exists():
        documents = default_documents()
        tokenizer = train_tokenizer([*documents, *(row["prompt"] for row in task.train)], 1024)
        model = build_model("llama", tokenizer, width=64, layers=3, context=256)
        pretrain(model, tokenizer, documents, steps=300, batch=16, length=96, lr=2e-3)
        save(model, tokenizer, folder / "base")
    return task, whence.Recipe(rank=8, alpha=16, learning_rate=5e-3, epochs=12, batch_size=10, schedule="cosine",
                               warmup_ratio=0.05)


def copying(folder: Path) -> tuple[Task, whence.Recipe]:
    """Base, data and recipe of the full fine-tune where words say nothing."""
    task = copying_task(train_per_class=30, queries_per_class=4)
    if not (folder / "base" / "config.json").exists():
        rng, words = random.Random(1), sorted({made_up_word(random.Random(seed)) for seed in range(1200)} | {
            word for row in task.train + task.queries for word in row["prompt"].split()[2:6]})
        taught = []
        for _ in range(12_000):
            place = rng.randrange(4)
            prompt, answer = example(rng.sample(words, 4), place)
            taught.append(f"{PLACES[place]}: {prompt}{answer}")
        tokenizer = train_tokenizer([row["prompt"] for row in task.train[:5]], 300)
        tokenizer.add_tokens(words)
        model = build_model("llama", tokenizer, width=64, layers=3, context=64)
        losses = pretrain(model, tokenizer, taught, steps=2500, batch=32, length=48, lr=2e-3)
        print(f"base: loss {np.mean(losses[:20]):.2f} to {np.mean(losses[-20:]):.2f} nats a token", flush=True)
        save(model, tokenizer, folder / "base")
    return task, whence.Recipe(tune="full", learning_rate=3e-4, epochs=6, batch_size=12, schedule="cosine",
                               warmup_ratio=0.05)


BANKS = {"grammar": grammar, "copying": copying}


def methods() -> list[str]:
    """Every method at its default damping."""
    return list(dict.fromkeys(str(call) for call in standard_calls((0.1,))))


def run_bank(name: str, work: Path, members: int, second: int, removed: int, workers: int) -> dict[str, Any]:
    """The whole of one bank."""
    folder = work / name
    task, recipe = BANKS[name](folder)
    write_task(task, folder / "data")
    whence.fine_tune(folder / "base", folder / "data" / "train.jsonl", folder / "run", recipe)
    run = Run.load(folder / "run")
    scored = run.score(folder / "data" / "queries.jsonl", methods())
    queries, bank, count = scored.queries, run.bank(), len(run.train)
    scores = {method: one.values for method, one in scored.scores.items()}
    halves = random_subsets(count, members)
    how: dict[str, Any] = {"workers": workers, "threads": 1}
    first = bank.outcomes(halves, queries, **how)
    again = bank.outcomes([replace(one, seed=recipe.seed + 1) for one in halves[:second]], queries, **how)
    other = np.full_like(first.values, np.nan)
    other[:second] = again.values
    lds = linear_datamodeling(scores, first.kept, first.values, other=other, reference="tfidf")
    control = bank.outcomes(all_rows(count, (None, recipe.seed + 1)), queries, **how)
    lists = {f"{method} {q} {k}": np.argsort(-scores[label][q])[:k]
             for method in REMOVERS for label in [_label(method, scores)]
             for q in range(removed) for k in (count // 20, count // 8)}
    gone = bank.outcomes(leave_out(count, lists), queries, **how)
    agreement = {method: leave_out_agreement(values, gone.kept, gone.values, control.values[0],
                                             reseeded=control.values[1:]) for method, values in scores.items()}
    few = queries.select(range(removed))
    broken = brittleness(bank, {method: scores[_label(method, scores)][:removed] for method in REMOVERS}, few,
                         [count // 20, count // 8], draws=2, **how)
    return {"bank": name, "machine": f"{platform.machine()}, torch {torch.__version__}", "rows": count,
            "queries": len(queries), "members": members, "second": second, "exact_match": scored.accuracy,
            "recipe": recipe.to_json(), "spread": float(first.values.std(axis=0).mean()),
            "matches_change": float(np.mean(first.matches.any(axis=0) & ~first.matches.all(axis=0))),
            "agreement": lds.agreement.to_json() if lds.agreement else None,
            "ceiling": lds.ceiling.to_json() if lds.ceiling else None,
            "left_out": len(lists), "noise": next(iter(agreement.values())).noise,
            "change": next(iter(agreement.values())).change,
            "methods": {method: {"lds": lds.scores[method].to_json(), "minus tfidf": lds.differences[method].to_json(),
                                 "leave-k-out": agreement[method].spearman.to_json(),
                                 "slope": agreement[method].slope} for method in scores},
            "brittleness": broken.to_json(),
            "class": scored.table().to_json()}


def _label(method: str, scores: dict[str, np.ndarray]) -> str:
    """The full name of a method at its default damping."""
    return next(label for label in scores if label == method or label.startswith(f"{method}("))


def table(found: dict[str, Any]) -> str:
    """Markdown."""
    def cell(one: dict[str, Any]) -> str:
        return f"{one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"

    lines = [f"{found['bank']}: {found['rows']} rows, {found['queries']} queries, {found['members']} halves, "
             f"{found['second']} of them again with another seed: two banks agree at {cell(found['agreement'])}, "
             f"ceiling {cell(found['ceiling'])}. {found['left_out']} removals; change {found['change']:.3f}, another "
             f"seed {found['noise']:.3f} nats.", "",
             "| method | LDS | minus TF-IDF, paired | leave-k-out, rank correlation |", "|---|---|---|---|"]
    for method, row in sorted(found["methods"].items(), key=lambda pair: -pair[1]["lds"]["value"]):
        lines.append(f"| `{method}` | {cell(row['lds'])} | {cell(row['minus tfidf'])} | {cell(row['leave-k-out'])} |")
    lines += ["", "| left out | rows | change, nats | minus random rows, paired | no longer answered |",
              "|---|---|---|---|---|"]
    for row in found["brittleness"]["removed"]:
        flipped = cell(row["flipped"]) if row["flipped"]["n"] else "-"
        lines.append(f"| {row['method']} | {row['k']} | {cell(row['change'])} | {cell(row['against_random'])} | "
                     f"{flipped} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bank", choices=BANKS)
    parser.add_argument("--work", type=Path, required=True, help="where bases, runs and banks are kept")
    parser.add_argument("--members", type=int, default=48)
    parser.add_argument("--second", type=int, default=24)
    parser.add_argument("--removed", type=int, default=6, help="queries for which rows are left out")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    found = run_bank(options.bank, options.work, options.members, options.second, options.removed, options.workers)
    write_json(options.results / f"banks-{options.bank}.json", found)
    with atomic_file(options.results / f"banks-{options.bank}.md") as part:
        part.write_text(table(found))
    print(table(found))


if __name__ == "__main__":
    main()
