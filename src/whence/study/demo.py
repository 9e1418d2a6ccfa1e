"""The demo: everything whence does, on data made here, in a few minutes.

A small Llama is made from scratch and given some English (Python's own documentation), fine-tuned with LoRA
to name the rule that turned one sentence into another, and asked about sentences it has not seen. Then:
which training examples are behind each answer? The rule is the label, so every method can be graded.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from whence.measure.greedy import greedy_answers
from whence.models.build import build_model, pretrain, save, train_tokenizer
from whence.models.corpus import default_documents
from whence.run.report import scored_report
from whence.run.run import Run
from whence.run.scored import Scored
from whence.tasks.synthetic import make_task, write_task
from whence.train.fine_tune import fine_tune
from whence.train.recipe import Recipe
from whence.trust.card import Card

HEADLINE = "ekfac(damping=0.1)"


@dataclass(frozen=True)
class Sizes:
    """How large the demo is; the defaults take about two minutes on 2 cores."""

    train_per_class: int = 40
    queries_per_class: int = 6
    width: int = 128
    layers: int = 4
    pretraining_steps: int = 300
    verify_seconds: float = 30.0  # for nudges and exact products, about
    recipe: Recipe = field(default_factory=lambda: Recipe(
        rank=16, alpha=32, learning_rate=3e-3, epochs=16, batch_size=16, schedule="cosine", warmup_ratio=0.05))


@dataclass(frozen=True)
class Demo:
    """What the demo leaves: a run directory, scores under every method, a trust card, a report."""

    run: Run
    scored: Scored
    card: Card
    report: Path
    seconds: dict[str, float]


def run_demo(out: str | Path, say: Callable[[str], object] = print, sizes: Sizes | None = None,
             seed: int = 0) -> Demo:
    """Run it all in `out`; a step that is already there is not done again."""
    out, sizes, seconds = Path(out), sizes or Sizes(), {}

    def timed(what: str, start: float) -> None:
        seconds[what] = time.perf_counter() - start

    start = time.perf_counter()
    say("1/5  a small language model from scratch, pretrained on Python's documentation")
    base = out / "base"
    task = make_task("grammar", train_per_class=sizes.train_per_class, queries_per_class=sizes.queries_per_class,
                     seed=seed)
    write_task(task, out / "data")
    if not (base / "config.json").exists():
        documents = default_documents()
        tokenizer = train_tokenizer([*documents, *(row["prompt"] for row in task.train)], 1024)
        model = build_model("llama", tokenizer, width=sizes.width, layers=sizes.layers, context=256, seed=seed)
        pretrain(model, tokenizer, documents, steps=sizes.pretraining_steps, batch=16, length=96, lr=2e-3, seed=seed)
        save(model, tokenizer, base)
    timed("base_model", start)

    start = time.perf_counter()
    say("2/5  fine-tune it with LoRA to name grammar rules")
    fine_tune(base, out / "data" / "train.jsonl", out / "run", sizes.recipe, say=lambda line: say(f"     {line}"))
    timed("fine_tune", start)

    start = time.perf_counter()
    say("3/5  sweep once over the data, score every training example for every query with every method")
    run = Run.load(out / "run")
    scored = run.score(out / "data" / "queries.jsonl", "all")
    say(f"     the fine-tuned model gets {scored.accuracy:.0%} of {len(scored.queries)} unseen queries right")
    timed("sweep_and_score", start)

    start = time.perf_counter()
    say(f"4/5  should you believe {HEADLINE}? Nudge some rows and look")
    card = run.verify(scored.queries, HEADLINE, "cheap", seconds=sizes.verify_seconds)
    say(f"     {card.verdict}")
    timed("verify", start)

    start = time.perf_counter()
    say("5/5  the report")
    answers = greedy_answers(run.subject.model, run.tokenizer, scored.queries)
    report = scored_report(scored, run.facts(), out / "report.html", answers=answers, headline=HEADLINE, card=card,
                           title="whence demo: which examples taught the rule?")
    timed("report", start)
    return Demo(run, scored, card, report, seconds)
