"""`whence probe`: score made-up texts against queries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from whence.base.errors import WhenceError
from whence.methods.catalogue import DEFAULT
from whence.run.probe import SUITES
from whence.run.run import Run


def probe(
    run: Annotated[Path, typer.Argument(help="Run directory that `whence train` left.")],
    suite: Annotated[str | None, typer.Option(help="A ready suite: word-order, the default.")] = None,
    rows: Annotated[Path | None, typer.Option(
        help="Queries of your own: rows of prompt and completion, and what else `run.probe.read_suite` takes.")] = None,
    method: Annotated[str, typer.Option(help="Such as 'ekfac(damping=1.0)' or gradient-dot.")] = DEFAULT,
    base: Annotated[str | None, typer.Option(help="Where the base model is now, if it was moved.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Score paraphrases, flipped word orders and other texts as if RUN had been trained on them."""
    if suite and rows:
        raise WhenceError(f"--suite {suite} and --rows {rows}: expected one of them")
    if suite and suite not in SUITES:
        raise WhenceError(f"--suite {suite}: expected {' or '.join(SUITES)}; a file of your own goes with --rows")
    probed = Run.load(run, base=base).probe(str(rows) if rows else suite or next(iter(SUITES)), method)
    if as_json:
        print(json.dumps({"run": str(run), **probed.to_json()}, indent=1))
        return
    console = Console()
    console.print(probed.table.to_rich())
    console.print(f"{len(probed.suite.probes)} probes of {len(probed.suite.queries)} queries, {probed.method}",
                  highlight=False)
    for note in probed.table.ratio.notes:
        console.print(f"Note: {note}.", highlight=False)
