"""`run_study`: from a study's file to its table: what `whence study` calls."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

import whence.study.kinds  # noqa: F401  (registers them)
from whence.study.cell import with_needs
from whence.study.cost import Cost, cost_of
from whence.study.engine import ROWS, is_done, make_cells, raise_failed, seconds_of
from whence.study.expand import Asked, expand
from whence.study.spec import Spec, read_spec
from whence.study.table import tidy, write_tidy

TABLE = "table.parquet"


@dataclass(frozen=True)
class Study:
    """A study whose cells are made.

    Attributes:
        spec: its file.
        asked: the cells of the table.
        table: see `whence.study.table`.
        seconds: of all cells, added up.
        out: the folder.
    """

    spec: Spec
    asked: Sequence[Asked]
    table: pd.DataFrame
    seconds: float
    out: Path


def plan_study(name: str | Path, out: str | Path, data: Path | None = None, *, only: Sequence[str] = (),
               seeds: Sequence[int] = ()) -> tuple[Spec, list[Asked], dict[str, Cost]]:
    """The cells of a study and what they would cost; nothing is made.

    Args:
        only: names of experiments; none is all.
        seeds: instead of the study's own.

    Raises:
        WhenceError: see `read_spec` and `expand`; an experiment that is not there.
    """
    spec = read_spec(name, data).chosen(only, seeds)
    asked = expand(spec)
    return spec, asked, cost_of([one.cell for one in asked], lambda cell: is_done(cell, Path(out)))


def run_study(name: str | Path, out: str | Path, data: Path | None = None, *, only: Sequence[str] = (),
              seeds: Sequence[int] = (), workers: int | None = None, threads: int = 1,
              say: Callable[[str], object] = lambda line: None) -> Study:
    """Make what is missing of a study, and its table, `OUT/table.parquet`.

    Args:
        data: the folder that `{data}` stands for in the study's file.
        only, seeds: see `plan_study`.
        workers, threads: processes, and threads of each.

    Raises:
        WhenceError: cells that failed, after all others are made; see also `plan_study`.
    """
    out = Path(out)
    spec, asked, costs = plan_study(name, out, data, only=only, seeds=seeds)
    for task in spec.left_out:
        say(f"left out: task {task}, as its files are in a folder that --data names")
    total, done = (sum(getattr(cost, what) for cost in costs.values()) for what in ("cells", "done"))
    say(f"{total} cells, {done} of them there already")
    failed = make_cells([one.cell for one in asked], out, workers, threads)
    table = table_of(asked, out)
    write_tidy(table, out / TABLE)
    say(f"{len(table):,} numbers in {out / TABLE}")
    raise_failed(failed, out)
    seconds = sum(seconds_of(cell, out) for cell in with_needs([one.cell for one in asked]))
    return Study(spec, asked, table, seconds, out)


def table_of(asked: Sequence[Asked], out: Path) -> pd.DataFrame:
    """What the cells that are there have found."""
    return tidy((one.labels, one.cell.key, one.cell.folder(out) / ROWS) for one in asked if is_done(one.cell, out))


def write_page(study: Study, path: str | Path) -> list[Path]:
    """The page of a built-in study and its plots, from the table alone; gives the files."""
    page = importlib.import_module(f"whence.study.{study.spec.name}.page")
    return list(page.write_page(study.table, Path(path), study.seconds))
