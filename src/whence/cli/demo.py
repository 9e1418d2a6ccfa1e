"""`whence demo`: everything, on built-in data, in minutes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from whence.cli.score import show_table
from whence.study.demo import run_demo


def demo(
    out: Annotated[Path, typer.Option(help="Where everything is kept; steps already there are not done again.")] = Path(
        "whence-demo"),
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Make a model and data, fine-tune, sweep, score, measure, verify, report."""
    result = run_demo(out, say=lambda line: print(line, file=sys.stderr if as_json else sys.stdout, flush=True))
    table = result.scored.table()
    if as_json:
        print(json.dumps({"run": str(out / "run"), "report": str(result.report), "seconds": result.seconds,
                          "exact_match": result.scored.accuracy, "card": result.card.to_json(),
                          "table": table.to_json()}, indent=1))
        return
    console = Console()
    show_table(table, console, "Which method finds the training rows of the query's rule?")
    console.print(result.card.to_rich())
    took = ", ".join(f"{what.replace('_', ' ')} {seconds:.0f} s" for what, seconds in result.seconds.items())
    console.print(f"took {sum(result.seconds.values()):.0f} s: {took}")
    console.print(f"report: {result.report}", soft_wrap=True)
