"""`whence search`: the best rows of a corpus of any length, for each query."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from whence.base.errors import WhenceError
from whence.cli.options import Dtype
from whence.data.rows import parse_columns
from whence.methods.catalogue import DEFAULT
from whence.run.run import Run
from whence.run.stream import SHARD_ROWS
from whence.sweep.sweep import Layout


def search(
    run: Annotated[Path, typer.Argument(help="Run directory that `whence train` left.")],
    corpus: Annotated[Path, typer.Argument(help="JSONL or Parquet; read bit by bit, never whole.")],
    queries: Annotated[str, typer.Option(help="Queries: JSONL, JSON, Parquet or saved dataset.")],
    out: Annotated[Path, typer.Option(help="Folder for the best rows; a search that it holds is gone on with.")],
    method: Annotated[str, typer.Option(help="Such as 'ekfac(damping=1.0)' or gradient-dot.")] = DEFAULT,
    top: Annotated[int, typer.Option(help="Proponents kept for each query.")] = 100,
    bottom: Annotated[int, typer.Option(help="Opponents kept for each query.")] = 0,
    columns: Annotated[str | None, typer.Option(help="Of the corpus: OURS=THEIRS,..., as in text=body.")] = None,
    query_columns: Annotated[str | None, typer.Option(help="Of the queries, likewise.")] = None,
    max_length: Annotated[int | None, typer.Option(help="Tokens at which rows are cut off [as in training].")] = None,
    shard_rows: Annotated[int, typer.Option(help="Rows scored together; what is kept is written after each.")
                          ] = SHARD_ROWS,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Count and list rows that cannot be used.")] = False,
    dtype: Dtype = "model",
    base: Annotated[str | None, typer.Option(help="Where the base model is now, if it was moved.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Score every row of CORPUS for every query and keep the best; killed and typed again, it goes on."""
    if not corpus.exists():
        raise WhenceError(f"{corpus}: no such file")
    found = Run.load(run, base=base, layout=Layout(dtype=dtype)).search(
        corpus, queries, method, top=top, bottom=bottom, shard_rows=shard_rows, out=out,
        columns=parse_columns(columns) if columns else None,
        query_columns=parse_columns(query_columns) if query_columns else None, max_length=max_length,
        on_bad="skip" if skip_bad else "stop", say=lambda line: print(line, file=sys.stderr, flush=True))
    if as_json:
        print(json.dumps({"run": str(run), "corpus": str(corpus), "out": str(out), **found.to_json()}, indent=1))
        return
    console = Console()
    for query in range(len(found)):
        console.print(found.to_rich(query, 3))
    console.print(str(found), highlight=False)
    for told in found.listed:
        console.print(f"skipped: {told}", soft_wrap=True, markup=False, highlight=False)
    console.print(f"all that was kept: {out / 'best.parquet'}", soft_wrap=True, markup=False)
