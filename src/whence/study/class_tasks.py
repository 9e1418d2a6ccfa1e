"""The class-attribution tasks of Li et al. 2024 on a small model: was the task learned, and who finds the class?

For each task (grammars, math, emotion), each kind of fine-tune (LoRA, full) and each seed: fine-tune the
same small base model, measure its accuracy on the test rows, score every training row for every test row
with every method, and measure how well each method finds the training rows of the query's class.

    python -m whence.study.class_tasks --data DIR --out DIR

DIR of the data holds `TASK.train.jsonl` and `TASK.test.jsonl` with `prompts`, `response`, `variation`
(arXiv 2409.19998). Runs are independent processes of one thread each; a run that is there is not done again.
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import shutil
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import torch

from whence.base.files import read_json, write_json
from whence.data.examples import Examples
from whence.measure.greedy import greedy_answers
from whence.methods.evidence import Evidence
from whence.methods.registry import parse
from whence.run.run import Run
from whence.run.stored import read_scored
from whence.study.base_model import study_base
from whence.study.class_tables import write_page
from whence.tasks.table import MetricTable, metric_table
from whence.train.fine_tune import fine_tune
from whence.train.recipe import Recipe

TASKS = ("grammars", "math", "emotion")
COLUMNS = {"prompt": "prompts", "completion": "response", "group": "variation"}
TEMPLATE = "{prompt}\n{completion}"
SEEDS = (0, 1, 2)
COMMON: dict[str, Any] = {"batch_size": 16, "schedule": "cosine", "warmup_ratio": 0.05, "checkpoints": 1}
EPOCHS = {"grammars": 12, "math": 20, "emotion": 10}
RECIPES = {
    "lora": {"tune": "lora", "rank": 64, "alpha": 64, "learning_rate": 2e-3, **COMMON},
    "full": {"tune": "full", "learning_rate": 1e-3, **COMMON},
}


@dataclass(frozen=True)
class Cell:
    """One fine-tune of the study."""

    task: str
    tune: str
    seed: int

    def folder(self, out: Path) -> Path:
        """Where its run is kept."""
        return out / self.task / self.tune / f"seed-{self.seed}"


def run_cell(cell: Cell, data: Path, out: Path, memory: int) -> dict[str, Any]:
    """Fine-tune, score, measure; returns (and writes) what was found."""
    folder = cell.folder(out)
    done = folder / "result.json"
    if done.exists():
        return dict(read_json(done))
    torch.set_num_threads(1)
    start = time.perf_counter()
    recipe = Recipe(seed=cell.seed, epochs=EPOCHS[cell.task], **RECIPES[cell.tune])
    fine_tune(out / "base", data / f"{cell.task}.train.jsonl", folder, recipe, columns=COLUMNS, template=TEMPLATE)
    trained = time.perf_counter()
    run = Run.load(folder, memory=memory)
    scored = run.score(run.encode(data / f"{cell.task}.test.jsonl", COLUMNS), "all")
    answers = greedy_answers(run.subject.model, run.tokenizer, scored.queries)
    result = {
        "task": cell.task, "tune": cell.tune, "seed": cell.seed, "recipe": recipe.to_json(),
        "threads": torch.get_num_threads(),
        "accuracy": accuracy(answers, scored.queries.responses),
        "final": run.record["final"], "counts": run.record["counts"],
        "seconds": {"train": trained - start, "score": time.perf_counter() - trained, **run.timings},
        "facts": {label: dict(scores.facts) for label, scores in scored.scores.items()},
    }
    shutil.rmtree(folder / "factors")  # Gram matrices: hundreds of megabytes a run
    write_json(done, result)
    return result


def accuracy(answers: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Shares of greedy answers that are exactly right; right but for the numbers (`form`); right up to the last
    number (`set_up`); right in the last number."""

    def share(of: list[bool]) -> float:
        return sum(of) / len(of)

    pairs = list(zip((a.strip() for a in answers), (r.strip() for r in references), strict=True))
    numbers = [(re.findall(r"-?\d+", a), re.findall(r"-?\d+", r)) for a, r in pairs]
    found = {"exact": share([a == r for a, r in pairs])}
    if all(r for _, r in numbers):  # responses that are answers with numbers, not words with one in them
        found["form"] = share([re.sub(r"-?\d+", "#", a) == re.sub(r"-?\d+", "#", r) for a, r in pairs])
        found["set_up"] = share([before_last_number(a) == before_last_number(r) for a, r in pairs])
        found["last_number"] = share([a[-1:] == r[-1:] for a, r in numbers])
    return found


def before_last_number(text: str) -> str:
    """The text up to its last number; all of it where there is none.

    >>> before_last_number("Left = 20 - 141.\\nAnswer: -121")
    'Left = 20 - 141.\\nAnswer: '
    """
    numbers = list(re.finditer(r"-?\d+", text))
    return text[: numbers[-1].start()] if numbers else text


def tables(out: Path, task: str, tune: str) -> MetricTable:
    """The metric table over all seeds of one task and kind of fine-tune."""
    of_seeds = []
    for seed in SEEDS:
        folder = Cell(task, tune, seed).folder(out)
        queries, scores = read_scored(folder / "scores" / "queries")
        train = Examples.read_parquet(Path(folder) / "train.parquet")
        scores["random"] = parse(f"random(seed={seed})")(Evidence(train, queries))  # a draw of its own for each seed
        of_seeds.append(metric_table(scores, [str(g) for g in train.groups], [str(g) for g in queries.groups]))
    return MetricTable.over_seeds(of_seeds)


def main() -> None:
    """Run what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("runs/class_tasks"))
    parser.add_argument("--page", type=Path, default=Path("docs/studies/class_tasks.md"))
    parser.add_argument("--workers", type=int, default=psutil.cpu_count(logical=False) or 1)
    args = parser.parse_args()
    study_base(args.out / "base")
    memory = int(psutil.virtual_memory().available * 0.6 / args.workers)
    cells = [Cell(task, tune, seed) for seed in SEEDS for task in TASKS for tune in RECIPES]
    with ProcessPoolExecutor(args.workers, multiprocessing.get_context("spawn")) as pool:
        pending = {pool.submit(run_cell, cell, args.data, args.out, memory): cell for cell in cells}
        for count, future in enumerate(as_completed(pending), start=1):
            result = future.result()
            print(f"{count}/{len(cells)} {pending[future]}: accuracy {result['accuracy']}, "
                  f"train {result['seconds']['train']:.0f} s, score {result['seconds']['score']:.0f} s", flush=True)
    results = [run_cell(cell, args.data, args.out, memory) for cell in cells]
    write_page(args.page, results, {(task, tune): tables(args.out, task, tune) for task in TASKS for tune in RECIPES},
               read_json(args.out / "base" / "pretraining.json"))
    print(f"page: {args.page}")


if __name__ == "__main__":
    main()
