"""`whence verify`: should one believe the scores? Fills the trust card."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer
from rich.console import Console

from whence.base.errors import WhenceError
from whence.cli.options import Dtype, seconds_of
from whence.data.examples import Examples
from whence.data.rows import parse_columns
from whence.methods.catalogue import DEFAULT
from whence.run.report import scored_report
from whence.run.run import Run
from whence.scores.matrix import Scores
from whence.sweep.sweep import Layout
from whence.truth.cost import plan_bank


def verify(
    run: Annotated[Path, typer.Argument(help="Run directory that `whence train` left.")],
    queries: Annotated[str | None, typer.Option(
        help="Queries: JSONL, JSON, Parquet or saved dataset [those of an earlier `whence score`].")] = None,
    method: Annotated[str, typer.Option(help="Whose scores, such as ekfac or datainf.")] = DEFAULT,
    scores: Annotated[Path | None, typer.Option(
        help="Scores of any tool instead: a .npy file [queries, rows], or a folder that whence wrote.")] = None,
    level: Annotated[Literal["free", "cheap", "paid"], typer.Option(
        help="free: passes; cheap: nudges, exact products; paid: retraining. Each with those before it.")] = "cheap",
    budget: Annotated[str | None, typer.Option(
        help="Time for what is above free, about, such as 10m: fewer nudges and retrained models [all].")] = None,
    seed: Annotated[int, typer.Option(help="Of every sample.")] = 0,
    columns: Annotated[str | None, typer.Option(help="OURS=THEIRS,..., as in prompt=question.")] = None,
    name: Annotated[str | None, typer.Option(help="Which stored queries, where none are given: scores/NAME.")] = None,
    dtype: Dtype = "model",
    base: Annotated[str | None, typer.Option(help="Where the base model is now, if it was moved.")] = None,
    dry_run: Annotated[bool, typer.Option(
        "--dry-run", help="Only say what retraining would cost, and how narrow its intervals would be.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a report of the scores with the card too.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Measure whether the scores of RUN can be believed, and say so in plain words; the card is kept in RUN/trust."""
    seconds = seconds_of(budget) if budget else None
    if queries and name:
        raise WhenceError(f"--queries {queries} and --name {name}: expected one of them")
    given = _read_scores(scores) if scores else method
    loaded = Run.load(run, base=base, layout=Layout(dtype=dtype))
    asked = loaded.encode(queries, parse_columns(columns) if columns else None) if queries else _stored(run, name)
    if dry_run:
        plan = plan_bank(loaded.bank(), asked)
        if as_json:
            print(json.dumps(plan.to_json(), indent=1))
        else:
            Console().print(plan.to_rich())
        return
    if html and isinstance(given, Scores):
        raise WhenceError(f"--html {html}: a report is of whence's own scores; leave out --scores, or --html")
    card = loaded.verify(asked, given, level, seconds=seconds, seed=seed)
    page = scored_report(loaded.scored(asked, [card.method]), loaded.facts(), html, card=card,
                         title=f"{len(card.queries)} answers, and should you believe what is said of them?"
                         ) if html else None
    if as_json:
        print(json.dumps({"run": str(run), **card.to_json(), "report": str(page) if page else None}, indent=1))
        return
    console = Console()
    console.print(card.to_rich())
    told = ", ".join(f"{answer} {count}" for answer, count in card.answers.items() if count)
    console.print(f"{card.verdict}", style="bold", highlight=False)
    console.print(f"of {len(card.queries)} queries: {told}{card.expectation}", highlight=False)
    if level == "free":
        console.print("free dials can only raise doubt; `--level cheap` tests the scores", highlight=False)
    if page:
        console.print(f"report: {page}", soft_wrap=True, markup=False)


def _stored(run: Path, name: str | None) -> Examples:
    """The queries of an earlier `whence score`.

    Raises:
        WhenceError: none, or several and no name.
    """
    found = sorted(path.parent.name for path in (run / "scores").glob("*/queries.parquet"))
    if name is None and len(found) != 1:
        raise WhenceError(f"{run}: holds {len(found)} sets of scored queries"
                          f"{' (' + ', '.join(found) + ')' if found else ''}; expected --queries FILE"
                          f"{', or --name one of them' if found else ''}")
    if name is not None and name not in found:
        raise WhenceError(f"--name {name}: no such queries under {run / 'scores'}; there are: "
                          f"{', '.join(found) or 'none'}")
    print(f"queries: those of {run / 'scores' / (name or found[0])}", file=sys.stderr)
    return Examples.read_parquet(run / "scores" / (name or found[0]) / "queries.parquet")


def _read_scores(path: Path) -> Scores:
    if path.is_dir():
        return Scores.read(path)
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise WhenceError(f"--scores {path}: not a .npy file or a folder of scores ({error})") from None
    if not np.issubdtype(values.dtype, np.floating):
        raise WhenceError(f"--scores {path}: an array of {values.dtype}; expected floating point [queries, rows]")
    return Scores(values.astype(np.float64), path.name)
