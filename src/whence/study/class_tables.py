"""The page of the class-task study: accuracy first, then methods x metrics, then damping, then what wins."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from whence.base.files import atomic_file
from whence.curvature.damping import DAMPINGS
from whence.methods.catalogue import BASELINES
from whence.report.family import families
from whence.tasks.interval import short
from whence.tasks.table import MetricTable

SHOWN_DAMPING = 0.1  # chosen beforehand: the rule of Grosse et al. and of DataInf's code
Cell = tuple[str, str]  # task, kind of fine-tune

INTRO = """# Finding the class: grammars, math and emotion on a small model

Which methods rank the training rows of a test row's class first? These are the class-attribution tasks of
"Do Influence Functions Work on Large Language Models?" (arXiv 2409.19998) with its data, on a small model
made from scratch ({parameters:,} parameters, Llama architecture, pretrained on {tokens_seen:,} tokens of Python's
documentation and docstrings to {loss:.2f} nats a token), fine-tuned with LoRA and in full, {seeds} seeds each.
Class match is the published yardstick; it is not cause. Lexical overlap alone finds the class where the
response names it (grammars, emotion) or the prompt is made from a template (math): read every row against
BM25 and TF-IDF.

    python -m whence.study.class_tasks --data DIR --out runs/class_tasks

Made with that command on {machine}; torch {torch}, transformers {transformers}. Every
number is a mean over seeds and test rows with its 95 % interval (seeds and rows both resampled; with
{seeds} seeds it says little about the spread over seeds). The damping shown is {damping} x the mean eigenvalue,
fixed beforehand; the other dampings are below each table.
"""


def write_page(path: str | Path, results: Sequence[Mapping[str, Any]], tables: Mapping[Cell, MetricTable],
               base: Mapping[str, Any]) -> None:
    """Write the page as Markdown, atomically."""
    seeds = len({result["seed"] for result in results})
    machine = f"{platform.machine()}, {results[0]['threads']} thread a run, CPU only"
    intro = INTRO.format(parameters=base["parameters"], tokens_seen=base["tokens_seen"], loss=base["loss_last_50_mean"],
                         seeds=seeds, machine=machine, torch=version("torch"), transformers=version("transformers"),
                         damping=SHOWN_DAMPING)
    parts = [intro, _accuracy(results, tables), _winners(tables)]
    for (task, tune), table in tables.items():
        shown = table.select({family.default: family.default for family in families(table.rows, SHOWN_DAMPING)})
        parts += [f"## {task}, {tune} fine-tune\n", shown.to_markdown(), _dampings(table)]
    with atomic_file(path) as part:
        part.write_text("\n".join(parts), encoding="utf-8")


def _accuracy(results: Sequence[Mapping[str, Any]], tables: Mapping[Cell, MetricTable]) -> str:
    """Was the task learned? Mean and range over seeds."""
    lines = ["## Was the task learned?\n",
             "Greedy answers to the test rows, mean over seeds [lowest, highest]. `exact`: the whole response; `form`: "
             "right but for the numbers; `set-up`: right up to the last number; `last number`: the final answer. An "
             "attribution of what was not learned says nothing: where `set-up` is high and `last number` low, the form "
             "was learned and the sums were not.\n",
             "| task | fine-tune | exact | form | set-up | last number | chance | last epoch's loss, nats a token "
             "| trained weights | epochs |", "|---" * 10 + "|"]
    for task, tune in tables:
        of = [r for r in results if (r["task"], r["tune"]) == (task, tune)]
        chance = short(tables[task, tune].chance["acc"]) if task != "math" else "0"
        lines.append(f"| {task} | {tune} | " + " | ".join(
            _range([r["accuracy"].get(key) for r in of]) for key in ("exact", "form", "set_up", "last_number"))
            + f" | {chance} | {_range([r['final']['last_epoch_loss_per_token'] for r in of])} | "
              f"{of[0]['counts']['trained_weights']:,} | {of[0]['recipe']['epochs']} |")
    return "\n".join(lines) + "\n"


def _range(values: Sequence[float | None]) -> str:
    kept = [value for value in values if value is not None]
    return f"{short(float(np.mean(kept)))} [{short(min(kept))}, {short(max(kept))}]" if kept else "-"


def _winners(tables: Mapping[Cell, MetricTable]) -> str:
    """The best baseline and the best other method by AUPRC, at the damping fixed beforehand."""
    lines = ["| task | fine-tune | best lexical or random | best RepSim | gradient dot | best other gradient method "
             "| chance |", "|---" * 7 + "|"]
    ahead = behind = 0
    for (task, tune), table in tables.items():
        shown = [family.default for family in families(table.rows, SHOWN_DAMPING)]
        lexical = [method for method in shown if method in ("random", "bm25", "tfidf")]
        similar = [method for method in shown if method.startswith("repsim")]
        other = [method for method in shown if method.partition("(")[0] not in BASELINES]

        baseline, gradient = (table.rows[_best(table, of)]["auprc"]
                              for of in (lexical + similar, ["gradient-dot", *other]))
        ahead += gradient.low > baseline.high
        behind += gradient.high < baseline.low
        dot = table.rows["gradient-dot"]["auprc"]
        lines.append(f"| {task} | {tune} | {_show_best(table, lexical)} | {_show_best(table, similar)} "
                     f"| {dot} | {_show_best(table, other)} | {short(table.chance['auprc'])} |")
    verdict = ("By AUPRC, which does not depend on a cut, the best gradient method (damping fixed beforehand) is ahead "
               f"of the best baseline in {ahead} of {len(tables)} cells, behind it in {behind}; in the rest their "
               "intervals overlap. Both bests are picked on these rows. RepSim at the last response token has read the "
               "response, which in grammars and emotion is the label.\n")
    return "\n".join(["## What wins\n", verdict, *lines]) + "\n"


def _best(table: MetricTable, methods: Sequence[str]) -> str:
    return max(methods, key=lambda method: table.rows[method]["auprc"].value)


def _show_best(table: MetricTable, methods: Sequence[str]) -> str:
    return f"{_best(table, methods)} {table.rows[_best(table, methods)]['auprc']}"


def _dampings(table: MetricTable) -> str:
    """AUPRC and Acc of each damped family at every damping."""
    rows = {}
    for family in families(table.rows, SHOWN_DAMPING):
        if family.dampings:
            of = [table.rows[member] for member in family.members]
            rows[family.name] = [f"{short(row['acc'].value)} / {short(row['auprc'].value)}" for row in of]
    head = ["Acc / AUPRC by damping (x mean eigenvalue):\n", "| family | " + " | ".join(map(str, DAMPINGS)) + " |",
            "|---" * (len(DAMPINGS) + 1) + "|"]
    return "\n".join(head + [f"| {name} | " + " | ".join(cells) + " |" for name, cells in rows.items()]) + "\n"
