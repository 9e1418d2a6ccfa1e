"""`whence score`: a whole matrix of scores, and how good it is where rows are labelled."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from whence.base.errors import WhenceError
from whence.cli.options import Dtype
from whence.data.encode import describe
from whence.data.rows import parse_columns
from whence.methods.catalogue import DEFAULT, METHODS
from whence.report.family import families
from whence.run.report import scored_report
from whence.run.run import Run
from whence.sweep.sweep import Layout
from whence.tasks.labels import check_known
from whence.tasks.table import MetricTable


def show_table(table: MetricTable, console: Console, title: str | None = None) -> None:
    """The metric table as far as it fits the terminal: one damping a method, the default one."""
    damping = METHODS[DEFAULT].options["damping"]
    shown = {family.name: family.default for family in families(table.rows, damping)}
    console.print(table.select(shown).to_rich(title, width=console.width))
    if len(shown) < len(table.rows):
        console.print(f"damped methods at {damping} x mean eigenvalue; {len(table.rows) - len(shown)} more rows (other "
                      "dampings) are in the report and in --json")


def score(
    run: Annotated[Path, typer.Argument(help="Run directory that `whence train` left.")],
    queries: Annotated[str, typer.Option(help="Queries: JSONL, JSON, Parquet or saved dataset.")],
    method: Annotated[list[str] | None, typer.Option(
        help="Such as datainf or 'fisher(damping=1.0)', or all; can be repeated.")] = None,
    columns: Annotated[str | None, typer.Option(help="OURS=THEIRS,..., as in prompt=question,group=label.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of this set of queries [the file's]; scores/NAME/.")] = None,
    report: Annotated[Path | None, typer.Option(help="Where the report goes [RUN/report.html].")] = None,
    dtype: Dtype = "model",
    base: Annotated[str | None, typer.Option(help="Where the base model is now, if it was moved.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Score every training row of RUN for every query; killed and typed again, it goes on where it was."""
    if report and report.is_dir():
        raise WhenceError(f"--report {report}: a folder; expected the name of a file, such as {report / 'report.html'}")
    loaded = Run.load(run, base=base, layout=Layout(dtype=dtype))
    examples = loaded.encode(queries, parse_columns(columns) if columns else None)
    print(f"queries: {len(examples)}/{len(examples)} rows used; {describe(examples)}",
          file=sys.stderr if as_json else sys.stdout, flush=True)
    if None not in loaded.train.groups and None not in examples.groups:  # before hours of sweeping
        check_known([str(group) for group in loaded.train.groups], [str(group) for group in examples.groups],
                    str(run / "train.parquet"), queries)
    name = name or Path(queries.partition(":")[0]).stem.split(".")[0]
    scored = loaded.score(examples, method or [DEFAULT], name=name)
    page = scored_report(scored, loaded.facts(), report or run / "report.html",
                         title=f"{len(examples)} answers and the training data behind them")
    table = scored.table() if scored.labelled else None
    if as_json:
        print(json.dumps({
            "run": str(run), "report": str(page), "n_queries": len(examples), "n_train": len(loaded.train),
            "exact_match": scored.accuracy, "timings": loaded.timings,
            "precision": loaded.facts().get("precision"),
            "methods": {label: dict(scores.facts) for label, scores in scored.scores.items()},
            "table": table.to_json() if table else None}, indent=1))
        return
    console = Console()
    console.print(f"exact match of the model's greedy answers: {scored.accuracy:.3f}")
    if table:
        show_table(table, console)
    else:
        console.print("no metric table: rows or queries have no group (--columns group=COLUMN)")
    console.print(f"report: {page}", soft_wrap=True, markup=False)
