"""The linear datamodeling score (LDS): do scores of training rows foretell what retraining on half of them does?

For each query, over the members of a bank (`bank.py`), the Spearman correlation of

    the sum of the scores of the rows that a member keeps        what the method says
    the query's log-probability in that member                   what happened

and of that the mean over queries (Park et al. 2023, arXiv 2303.14186; Ilyas et al. 2022). 1 is perfect, 0 is chance.

    python benchmarks/lds/lds.py --bank runs/bank --reference ekfac --out runs/lds \\
        --scores ekfac=runs/scores/ekfac.npy tfidf=runs/scores/tfidf.npy
    python benchmarks/lds/lds.py --bank runs/bank --out runs/curve \\
        --curve ekfac@64=runs/scores/s64.npy ekfac@128=runs/scores/s128.npy ekfac@full=runs/scores/ekfac.npy

prints a table and writes it as .json and .csv beside a plot. A file of scores is float [queries, rows], positive = the
row is a proponent of the query.

Intervals are 95 %, percentile bootstrap over queries and members drawn anew together; every method sees the same
draws, so that the interval of a difference is a paired one.

The ceiling: two banks that differ in their batch order alone agree, query by query, by a Spearman of r on average.
A predictor that knew the mean outcome over all orders exactly would reach sqrt(r) on one bank (attenuation; Spearman
1904), which is the line in the plot; one more retraining with the other order reaches r.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from outcomes import LEVEL, RESAMPLES, Bank, Interval, Result, by_value, evaluate
from plots import plot, plot_curve
from rich.console import Console
from rich.table import Table

from whence.base.files import atomic_file, write_json


def show(result: Result, truth: str) -> Table:
    """The table as it is printed, best first."""
    counts = result.counts
    table = Table(title=f"LDS: {counts['members']} members, {counts['queries']} queries, {counts['rows']} rows, "
                        f"order {truth}; 95 % intervals over members and queries")
    table.add_column("method")
    table.add_column("LDS")
    table.add_column(f"minus {result.reference}")
    for name in by_value(result.lds):
        table.add_row(name, text(result.lds[name]), "" if name == result.reference else text(result.difference[name]))
    table.add_section()
    some = "" if counts["both_orders"] == counts["members"] else f" ({counts['both_orders']} members)"
    table.add_row(f"ceiling: the mean outcome known{some}", text(result.ceiling))
    table.add_row(f"the other order's outcome{some}", text(result.agreement))
    return table


def text(value: Interval) -> str:
    """`0.823 [0.790, 0.850]`."""
    return "{:.3f} [{:.3f}, {:.3f}]".format(*value)


def read_scores(pairs: Iterable[str]) -> dict[str, np.ndarray]:
    """`NAME=FILE.npy` to arrays by name; both may hold more of the sign, so the file is what is there."""
    found = {}
    for pair in pairs:
        cuts = [i for i, letter in enumerate(pair) if letter == "=" and i and Path(pair[i + 1 :]).is_file()]
        if not cuts:
            raise SystemExit(f"{pair}: expected NAME=FILE.npy of a file that is there")
        found[pair[: cuts[-1]]] = np.load(pair[cuts[-1] + 1 :])
    return found


def named(out: Path, ending: str) -> Path:
    """`out` with the ending after its name; with_suffix would take `.1` in `damping=0.1` for one."""
    return out.with_name(out.name + ending)


def write(result: Result, truth: str, out: Path) -> None:
    """OUT.json with everything, OUT.csv with one line a method."""
    write_json(named(out, ".json"), {**vars(result), "truth": truth, "level": LEVEL})
    with atomic_file(named(out, ".csv")) as part, part.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["method", "lds", "low", "high", f"minus {result.reference}", "low", "high"])
        for name in by_value(result.lds):
            lines.writerow([name, *result.lds[name], *result.difference[name]])
        lines.writerow(["ceiling", *result.ceiling, "", "", ""])
        lines.writerow(["other order", *result.agreement, "", "", ""])


def main() -> None:
    """Read bank and scores, print the table, write the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bank", type=Path, required=True, help="folder of bank.py, or a file that --keep left")
    parser.add_argument("--keep", type=Path, help="write kept rows and outcomes of the bank into this .npz")
    parser.add_argument("--scores", nargs="*", default=[], metavar="NAME=FILE.npy")
    parser.add_argument("--curve", nargs="*", default=[], metavar="NAME@ROWS=FILE.npy",
                        help="plot LDS against ROWS; one of them has to be NAME@full")
    parser.add_argument("--reference", help="the method that differences are taken to; default the first, or NAME@full")
    parser.add_argument("--truth", choices=("a", "b", "mean"), default="a", help="whose outcomes are to be foretold")
    parser.add_argument("--resamples", type=int, default=RESAMPLES)
    parser.add_argument("--out", type=Path, default=Path("lds"), help="name of the files, without ending")
    args = parser.parse_args()
    curve = read_scores(args.curve)
    scores = read_scores(args.scores) | curve
    sizes = {name: name.rpartition("@")[2] for name in curve}
    full = [name for name, rows in sizes.items() if rows == "full"]
    if not scores or bool(curve) != (len(full) == 1):
        raise SystemExit("give --scores NAME=FILE.npy ..., or --curve NAME@ROWS=FILE.npy ... with one NAME@full")
    reference = args.reference or (full or list(scores))[0]
    if reference not in scores:
        raise SystemExit(f"--reference {reference}: not among {', '.join(scores)}")
    bank = Bank.read(args.bank)
    if args.keep:
        bank.write(args.keep)
    result = evaluate(scores, bank, reference, args.truth, args.resamples)
    Console(width=120).print(show(result, args.truth))
    write(result, args.truth, args.out)
    if curve:
        rows = {name: int(count) for name, count in sizes.items() if count != "full"}
        plot_curve(result, rows, full[0], named(args.out, ".png"))
    else:
        plot(result, named(args.out, ".png"))


if __name__ == "__main__":
    main()
