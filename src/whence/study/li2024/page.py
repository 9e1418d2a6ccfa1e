"""The page of the study, from its table alone: what was published, what stands, on which evidence."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from whence.base.files import atomic_file
from whence.study.estimate import markdown, pick
from whence.study.li2024 import inverses, plots, tables
from whence.study.li2024.answers import answers, pads
from whence.study.li2024.likeness import likeness

HEAD = """# Do influence functions work on language models? As published, and corrected

"Do Influence Functions Work on Large Language Models?" (Li, Zhao, Li & Sun, arXiv 2409.19998) found influence
functions failing on most tasks of fine-tuned language models. This page runs its experiments again: as the
published code does them, and with each questionable choice changed, one at a time and all together, on {models}
made from scratch ({weights} weights trained), {seeds} seeds, generated tasks of the paper's kinds; judged by the
paper's class match and by retraining.

    whence study li2024 --out runs/li2024 --page docs/studies/li2024.md{data}

{cells:,} cells in the table, {hours:.1f} hours of one thread with what they stand on ({machine}, torch {torch}); this
page is written by that command from its table (`runs/li2024/table.parquet`, {numbers:,} numbers) and by nothing else.

How to read the numbers. `[a, b]` is a 95 % interval over seeds and over what is asked (seeds drawn anew, then
tasks x models x queries; for differences paired). **Acc**, **Cover**, **AUPRC** ask whether rows of the query's
class come first. **leave-k-out** asks what really happens: rank correlation, over models retrained without a
tenth of their rows (six removals chosen by methods, five at random), of the foretold change of each query's
answer with the real one, in log-probability of the answer alone; 0 is chance, 1 is perfect. What the
models are: small. A conclusion about software carries over to large models, a conclusion about their curvature
need not.

Where this departs from the published setting, as published too: no dropout, so that retrained models differ by
their rows alone; rows of 80 tokens instead of 128, no chat template; learning rates and epochs that small models
need; the marked rows are harmless (they answer like a pirate).
"""


def write_page(table: pd.DataFrame, path: Path, seconds: float) -> list[Path]:
    """Markdown and its plots (in a folder beside it, of the page's name); gives the files."""
    folder = path.with_suffix("")
    there = set(table["experiment"].unique())
    parts = [head(table, seconds), verdicts(table)]
    written: list[Path] = []

    def draw(needs: str, plot: object, name: str, alt: str) -> str:
        if needs not in there:
            return ""
        written.append(plot(table, folder / name))  # type: ignore[operator]
        return f"![{alt}]({folder.name}/{name})\n"

    if "learned" in there:
        parts += ["## Was the task learned?\n", tables.learned(table)]
    if "paper" in there:
        parts += ["## The paper's tasks, as published and corrected\n", "All models and seeds together. "
                  "`published`: pads and prompt in the loss, no EOS, A and B apart, LiSSA of three mis-scaled steps, "
                  "queries of the harmful (here: marked) class alone. `corrected`: the answer and its EOS in the loss, "
                  "one block a map, one damping, LiSSA that converges, queries of all classes. `(files)`: the authors' "
                  "own rows, one model, one seed.\n", tables.paper(table),
                  tables.sizes(table), "How much does one seed say?\n", tables.seeds(table)]
    if "switches" in there:
        parts += ["## The switches, one at a time and all together\n", SWITCHES, tables.moved(table),
                  tables.switches(table),
                  draw("switches", plots.switch_plot, "switches.svg", "Change of Acc, AUPRC and leave-k-out by switch"),
                  "Method by method:\n", tables.switches_by_method(table),
                  "## Is LiSSA gradient dot?\n", LIKENESS, likeness(table)]
    if "short rows" in there:
        parts += ["## Do pads in the loss make outliers of short rows?\n", SHORT, pads(table), tables.short_rows(table)]
    if inverses.MORE_ROWS.experiment in there or inverses.COPYING.experiment in there:
        parts += ["## Curvature against inverse\n", CURVATURE]
    if inverses.MORE_ROWS.experiment in there:
        parts += [inverses.parts(table), MORE_ROWS, inverses.by_damping(table, inverses.MORE_ROWS),
                  "Paired differences:\n",
                  inverses.decisive(table, inverses.MORE_ROWS, (0.1, 10.0), ("lds", "leave-k-out"))]
    if inverses.COPYING.experiment in there:
        parts += [COPYING, inverses.by_damping(table, inverses.COPYING), "Paired differences:\n",
                  inverses.decisive(table, inverses.COPYING, (10.0, 100.0), ("leave-k-out",))]
    if "causes" in there:
        parts += ["## Who finds the cause?\n", CAUSES, tables.causes(table, CAUSE_METHODS),
                  "RepSim by token, layer and model (all of these tasks together):\n", tables.repsim_choices(table)]
    if "inverse" in there:
        parts += ["## 4.1 Errors of the inverse-Hessian product\n", INVERSE,
                  draw("inverse", plots.inverse_plot, "inverse.svg", "Angle to the exact product by damping and size"),
                  tables.spectrum(table)]
    if "checkpoints" in there:
        parts += ["## 4.2 Over the course of a fine-tune\n",
                  draw("checkpoints", plots.checkpoint_plot, "checkpoints.svg", "Metrics over checkpoints"),
                  "Mean over tasks, models, seeds and queries, with 95 % bands.\n"]
    if "change" in there:
        parts += ["## 4.3 Parameters, loss, behaviour\n", CHANGE,
                  draw("change", plots.change_plot, "change.svg", "Parameter change, loss, KL and marker rate"),
                  tables.changes(table)]
    with atomic_file(path) as part:
        part.write_text("\n".join(text for text in parts if text).rstrip() + "\n", encoding="utf-8")
    return [path, *written]


SWITCHES = """First row: the published setting. Each other row: the change when that one thing is done differently and
everything else stays as published (or all together). Mean of gradient dot, DataInf and LiSSA over
two tasks and two models. What trains differently (pads, prompt, EOS, side, length, steps) has fine-tunes of
its own, and a retrain bank of its own on mixed 20/60: the leave-k-out of these rows is from that task alone.
"""
LIKENESS = """In the authors' cached scores LiSSA is 4.00 x the Hessian-free score on math, 3.99 x on mixedS
(`whence study li2024 --as-published --data FOLDER`): one start and three steps of `r <- v + r - (small)`. The same
recursion does the same here; one that converges does not.
"""
SHORT = """In the published set most rows fill the maximal length and 35 of 260, all harmless, do not; these were
the first rows of 90 % of the queries. Here: 20 marked rows and 84 others that are cut at 80 tokens, and 16
harmless ones with a short reply. Acc asks for a marked row; the second number is how often a short row comes
first (16 of 120 rows are short: chance is .133). The last column is the median size of a short row's scores
over that of the others.
"""
CURVATURE = """The same fine-tunes, the same gradients; only curvature, inverse and damping (x mean eigenvalue) differ.
If the solver were the trouble, inverting the same curvature exactly would help; if the curvature were, another
one would. DataInf, LiSSA and `fisher` invert each block by itself, all under one damping; `fisher(scope=model)` and
`cg` invert the whole model's matrix; EK-FAC and `cg` damp each block by its own mean eigenvalue, so a step to these
changes that too.
"""
MORE_ROWS = """240 rows with long answers (mixed 60/180), 41 retrained models a bank: thirty without a random half of
the rows (**lds**: the same rank correlation over these), eleven without a tenth. This experiment was added when
the one below it, the first, could not tell the methods apart; its sizes were chosen after a look at one seed.
"""
COPYING = """The two copying tasks: 64 rows with answers of one token, which make exact products cheap; leave-k-out.
"""
CAUSES = """`same surface`: all rows are of one form, and nothing of them says which rule made the answer. `crossed
surface`: every training row that looks like a query is of another rule. No word occurs twice, so words say
nothing in the first and the opposite of the class in the second. Class match and retraining side by side.
"""
INVERSE = """The angle between a solver's product and the exact one is the error at the best scale, which is all that a
ranking sees. Left: the solvers against the exact solution for the matrix that they approximate. Middle: against
the exact Gauss-Newton matrix (conjugate gradients; residuals under the table). Right: by number of attributed
parameters. Losses are sums here; the published recursion's scale of 1000 was made for means, and diverges on sums.
"""
CHANGE = """Four fine-tunes of the same base, from no marked rows (benign) to a half. Marked queries are answered by a
pirate where the behaviour was learned.
"""
CAUSE_METHODS = ("random", "bm25", "tfidf", "repsim", "gradient-dot", "datainf", "fisher", "ekfac")


def head(table: pd.DataFrame, seconds: float) -> str:
    """What was run."""
    models = sorted(str(name) for name in table["model"].unique())
    weights = pick(table, metric="trained weights")["value"]
    files = " --data FOLDER" if "paper, files" in set(table["experiment"]) else ""  # of the authors' rows
    return HEAD.format(data=files, models=", ".join(models), weights=f"{int(weights.min()):,} to {int(weights.max()):,}"
                       if len(weights) else "some", seeds=table["seed"].nunique(),
                       cells=table["cell"].nunique(), hours=seconds / 3600, machine=platform.machine(),
                       torch=version("torch"), numbers=len(table))


def verdicts(table: pd.DataFrame) -> str:
    """The published conclusions, one a row."""
    found = answers(table)
    lines = [[one.claim, f"**{one.verdict}**", one.rule, one.evidence] for one in found]
    told = ("## What stands\n\nThe rules were written before the first result. Mended since: after a look at one seed "
            "the published setting, whose loss is a mean over a row's tokens, not a sum; after all results the rule of "
            "reason 1, which compared DataInf, an inverse by block, with the exact inverse of the whole model's "
            "Fisher, another matrix (its evidence gives both).\n\n")
    return told + markdown(["published", "here", "rule", "evidence"], lines)
