"""`whence evaluate`: metrics of a score matrix, ours or a published one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from whence.scores.published import read_scores
from whence.tasks.evaluation import Evaluation, evaluate_scores
from whence.tasks.interval import short
from whence.tasks.labels import check_known, read_labels
from whence.tasks.metrics import check_shape, cover_cut


def evaluate(
    scores: Annotated[Path, typer.Argument(help="Folder of scores, .npy or .csv[.gz]; rows = queries.")],
    train_labels: Annotated[Path, typer.Option(help="Labels of the training rows: .jsonl[.gz] or .parquet.")],
    query_labels: Annotated[Path, typer.Option(help="Labels of the queries, likewise.")],
    label_field: Annotated[str, typer.Option(help="The field of both files that holds the label.")] = "group",
    most_influential: Annotated[
        Literal["lowest", "highest"] | None,
        typer.Option(help="Which scores push hardest; CSV: lowest, .npy: highest, unless told otherwise."),
    ] = None,
    permutations: Annotated[int, typer.Option(help="Shuffles of the training labels for the null.")] = 200,
    resamples: Annotated[int, typer.Option(help="Bootstrap resamples for the intervals.")] = 2000,
    seed: Annotated[int, typer.Option(help="Seed of resamples and shuffles.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Measure how well scores find the training rows that share each query's label."""
    matrix = read_scores(scores, most_influential)
    train, query = read_labels(train_labels, label_field), read_labels(query_labels, label_field)
    check_shape(matrix.values, len(train), len(query), str(scores), str(train_labels), str(query_labels))
    check_known(train, query, str(train_labels), str(query_labels))
    result = evaluate_scores(matrix, train, query, permutations=permutations, resamples=resamples, seed=seed)
    if as_json:
        print(json.dumps(result.to_json(), indent=1, allow_nan=False))
    else:
        _show(result, Console(markup=False))


def _show(result: Evaluation, console: Console) -> None:
    caption = "null (p95): mean (95th percentile) with training labels shuffled; p: share of shuffles as good"
    table = Table(title=result.method, title_justify="left", caption=caption, caption_justify="left",
                  box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("metric", no_wrap=True)
    for name in (f"mean [{result.level:.0%}]", "chance", "null (p95)", "p", "scored"):
        table.add_column(name, justify="right", no_wrap=True)
    for name, estimate in result.estimates.items():
        null = result.nulls[name]
        table.add_row(name, str(estimate), short(result.chance[name]),
                      f"{short(null.mean)} ({short(null.percentile95)})", short(null.p_value),
                      f"{estimate.n}/{result.n_queries}")
    console.print(table)
    hubs = result.hubs
    console.print(f"{result.n_queries} queries, {result.n_train} training rows, {result.n_classes} classes; "
                  f"cover is cut at {cover_cut(result.n_train, result.n_classes)}.")
    ratio = "undefined" if hubs.column_rms_ratio is None else f"{hubs.column_rms_ratio:.1f}"
    skewness = "undefined" if hubs.k_skewness is None else f"{hubs.k_skewness:.2f}"
    console.print(f"Hubs: training row {hubs.top1_row} comes first for {short(hubs.top1_share)} of the "
                  f"queries; {hubs.distinct_top1} rows come first for some query; largest / median scale of "
                  f"a row {ratio}; skewness of the top-{hubs.k} counts {skewness}.")
    for note in result.notes:
        console.print(f"Note: {note}.")
