"""`whence study`: a published study, as published and corrected."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import rich.box
import rich.table
import typer
from rich.console import Console

from whence.base.errors import WhenceError
from whence.study.cost import cost_table
from whence.study.expand import Asked
from whence.study.li2024.published import differences, read_published
from whence.study.spec import BUILT_IN
from whence.study.study import plan_study, run_study, write_page
from whence.truth.bank import default_workers


def study(
    name: Annotated[str, typer.Argument(help=f"A built-in study ({', '.join(BUILT_IN)}) or a YAML file of your own.")],
    out: Annotated[Path | None, typer.Option(help="Where cells and the table are kept [runs/NAME].")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the study's data files, where it names some.")] = None,
    as_published: Annotated[bool, typer.Option(
        "--as-published", help="Only the paper's metrics on the authors' cached scores in DATA/scores.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="Name of an experiment; may be given again [all].")] = None,
    seeds: Annotated[int | None, typer.Option(help="How many of the study's seeds [all].")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes [as many as cores].")] = None,
    threads: Annotated[int, typer.Option(help="Threads of each process.")] = 1,
    page: Annotated[Path | None, typer.Option(
        help="Where the page is written, its plots beside it [OUT/page.md]; of a built-in study.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only print the cells and what they would cost.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Run the cells of a study that are missing; write its table and page. Killed and typed again, it goes on."""
    console = Console()
    if as_published:
        if data is None:
            raise WhenceError("--as-published reads the authors' scores: name their folder with --data")
        found = read_published(data)
        if as_json:
            print(json.dumps({**found.to_json(), "differences": differences(found.rows)}, indent=1))
            return
        console.print(found.to_rich("The paper's metrics on its authors' cached scores", console.width))
        for line in differences(found.rows) or ["Acc and Cover agree with the recomputed ones to three decimals."]:
            console.print(line)
        return
    out = out or Path("runs") / Path(name).stem
    chosen: dict[str, Any] = {"only": tuple(only or ()), "seeds": tuple(range(seeds)) if seeds else ()}
    if dry_run:
        spec, asked, costs = plan_study(name, out, data, **chosen)
        if as_json:
            print(json.dumps({"study": spec.name, "cells": [
                {**one.labels, "kind": one.cell.kind, "cell": one.cell.key} for one in asked],
                "cost": {kind: asdict(cost) for kind, cost in costs.items()}}, indent=1))
            return
        console.print(asked_table(asked))
        console.print(cost_table(costs, workers or default_workers(threads, "cpu"), out))
        return
    done = run_study(name, out, data, **chosen, workers=workers, threads=threads,
                     say=lambda line: print(line, file=sys.stderr, flush=True))
    written = []
    if done.spec.name in BUILT_IN:
        written = write_page(done, page or out / "page.md")
    if as_json:
        print(json.dumps({"study": done.spec.name, "table": str(out / "table.parquet"), "numbers": len(done.table),
                          "seconds": done.seconds, "files": [str(path) for path in written]}, indent=1))
        return
    for path in written:
        console.print(f"{path}", soft_wrap=True)


def asked_table(asked: Sequence[Asked]) -> rich.table.Table:
    """What each experiment asks for, for a terminal."""
    table = rich.table.Table(box=rich.box.SIMPLE, title="experiments")
    axes = {"tasks": "task", "models": "model", "fine-tunes": "tune", "trainings": "training", "seeds": "seed"}
    for name in ("experiment", "cells", *axes):
        table.add_column(name, justify="left" if name == "experiment" else "right")
    for experiment in dict.fromkeys(one.labels["experiment"] for one in asked):
        own = [one.labels for one in asked if one.labels["experiment"] == experiment]
        table.add_row(experiment, f"{len(own):,}", *(str(len({labels[axis] for labels in own}))
                                                    for axis in axes.values()))
    return table
