"""`read_published`: what the authors' cached scores say under the paper's metrics, and under ours.

A folder of the authors' data (the repository of arXiv 2409.19998) is laid out so:

    scores/MODEL.TASK_EPOCHS_METHOD.csv.gz    (or .csv)  queries x training rows, most influential = most negative
    TASK.train.jsonl, TASK.test.jsonl         a row an example, its class in `variation`
    TASK.train.labels.jsonl, ...              where the texts are left out: the same rows, `variation` alone

METHOD is `gmatch` (the gradients' dot product, their "Hessian-free"), `inf` (DataInf) or `lissa`.

Each file gives a row of metrics (`whence.tasks.metrics` defines them). Two more Accs say how far the number depends
on the reading of the scores: with the rows ranked by |score|, as the first version of the paper did, and after the
scores of each training row are brought to mean 0 and variance 1 over the queries, which takes away what makes a row
come first for every query. The latter needs all queries at once, and means nothing where they share one class.

Where LiSSA and the dot product are both there, `PublishedRatio` holds one against the other, entry by entry: a
recursion r <- v + r - (small) H r that was stopped after t steps gives 1 + t times the dot product, and then LiSSA's
scores are no evidence about the Hessian.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from rich import box
from rich.console import Group
from rich.markup import escape
from rich.table import Table

from whence.base.errors import WhenceError
from whence.scores.matrix import Scores
from whence.scores.published import read_scores
from whence.tasks.agreement import agreement
from whence.tasks.hubs import Hubs
from whence.tasks.interval import LEVEL, RESAMPLES, Estimate, bootstrap_mean, plain, short
from whence.tasks.labels import check_known, read_labels
from whence.tasks.metrics import accuracy, check_shape, cover_cut, judge
from whence.tasks.table import metric_table

METHODS = {"gmatch": "gradient dot", "inf": "DataInf", "lissa": "LiSSA"}
METRICS = ("acc", "cover", "cover_at_positives", "auprc", "roc_auc")
FORM = "MODEL.TASK_EPOCHS_METHOD.csv.gz with METHOD one of " + ", ".join(METHODS)
NAME = re.compile(rf"(.+)\.([^.]+)_(\d+)_({'|'.join(METHODS)})\.csv(\.gz)?")
LEAST_TELLING_FIRST = ("epochs", "c", "shape", "entries", "Cover at positives", "Acc by abs", "top rows", "ROC-AUC",
                       "chance Acc", "z Acc", "hub", "Cover")  # what a narrow terminal leaves out
ROUNDING = 0.5e-3 + 1e-9  # two numbers agree to three decimals; exact halves may have been rounded either way

# Acc and Cover, recomputed from the authors' cached scores with their own check_acc_cov; see `differences`.
RECOMPUTED = {
    "llama2-7b-chat.grammars_10_gmatch": (0.140, 0.126),
    "llama2-7b-chat.grammars_10_inf": (0.390, 0.244),
    "llama2-7b-chat.grammars_10_lissa": (0.150, 0.129),
    "llama2-7b-chat.math_10_gmatch": (1.000, 0.845),
    "llama2-7b-chat.math_10_inf": (1.000, 0.825),
    "llama2-7b-chat.math_10_lissa": (1.000, 0.845),
    "llama2-7b-chat.mixedS_50_gmatch": (0.175, 0.548),
    "llama2-7b-chat.mixedS_50_inf": (0.900, 0.614),
    "llama2-7b-chat.mixedS_50_lissa": (0.175, 0.548),
}


@dataclass(frozen=True)
class PublishedRow:
    """One file of scores under every metric.

    Attributes:
        model, task, epochs, method: as in the file's name; method is a key of `METHODS`.
        n_queries, n_train: shape of the scores. cut: floor(n_train / classes), where Cover cuts the ranking.
        acc, cover: the paper's. cover_at_positives, auprc, roc_auc: see `whence.tasks.metrics`.
        chance_acc: Acc of a random ranking, exactly.
        abs_acc: Acc with the training rows ranked by |score|.
        z_acc: Acc after every training column is z-scored over the queries; None where all queries share a class.
        hubs: who comes first, and how often.
    """

    model: str
    task: str
    epochs: int
    method: str
    n_queries: int
    n_train: int
    cut: int
    acc: Estimate
    cover: Estimate
    cover_at_positives: Estimate
    auprc: Estimate
    roc_auc: Estimate
    chance_acc: float
    abs_acc: Estimate
    z_acc: Estimate | None
    hubs: Hubs

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return f"{self.model}.{self.task}_{self.epochs}_{self.method}"

    def to_json(self) -> dict[str, Any]:
        """Plain values; null for what could not be scored or has no meaning here."""
        return {
            "model": self.model, "task": self.task, "epochs": self.epochs, "method": self.method,
            "n_queries": self.n_queries, "n_train": self.n_train, "cut": self.cut,
            **{name: getattr(self, name).to_json() for name in (*METRICS, "abs_acc")},
            "z_acc": self.z_acc and self.z_acc.to_json(),
            "chance_acc": plain(self.chance_acc), "hubs": self.hubs.to_json(),
        }

    def cells(self) -> dict[str, str]:
        """What a table shows, by the column's name."""
        return {
            "model": self.model, "task": self.task, "epochs": str(self.epochs), "method": METHODS[self.method],
            "shape": f"{self.n_queries}x{self.n_train}", "c": str(self.cut), "Acc": str(self.acc),
            "Cover": str(self.cover), "Cover at positives": short(self.cover_at_positives.value),
            "AUPRC": str(self.auprc), "ROC-AUC": short(self.roc_auc.value), "chance Acc": short(self.chance_acc),
            "Acc by abs": short(self.abs_acc.value), "z Acc": short(self.z_acc.value) if self.z_acc else "-",
            "top rows": str(self.hubs.distinct_top1), "hub": short(self.hubs.top1_share),
        }


@dataclass(frozen=True)
class PublishedRatio:
    """LiSSA's scores divided by the gradient dot products, entry by entry.

    Attributes:
        model, task, epochs: as in the files' names.
        median, low, high: of the ratios: middle, lower and upper quartile; NaN where no ratio is defined.
        n, undefined: entries with a ratio, and those without, because the dot product is 0.
        pearson: correlation over all entries of the two matrices; NaN where one of them is constant.
        spearman: rank correlation of each query, averaged.
    """

    model: str
    task: str
    epochs: int
    median: float
    low: float
    high: float
    n: int
    undefined: int
    pearson: float
    spearman: Estimate

    def to_json(self) -> dict[str, Any]:
        """Plain values; null for what is not defined."""
        numbers = {name: plain(getattr(self, name)) for name in ("median", "low", "high", "pearson")}
        return {"model": self.model, "task": self.task, "epochs": self.epochs, **numbers,
                "spearman": self.spearman.to_json(), "n": self.n, "undefined": self.undefined}

    def cells(self) -> dict[str, str]:
        """What a table shows, by the column's name."""
        return {
            "model": self.model, "task": self.task, "epochs": str(self.epochs),
            "LiSSA / gradient dot": short(self.median), "quartiles": f"{short(self.low)}, {short(self.high)}",
            "Pearson": short(self.pearson), "Spearman": str(self.spearman),
            "entries": f"{self.n}/{self.n + self.undefined}",
        }


@dataclass(frozen=True)
class Published:
    """Both tables of a folder; rows by model, task, epochs, and method in the order of `METHODS`.

    Attributes:
        rows, ratios: a row for each file, a ratio for each pair of LiSSA and gradient dot.
        notes: reasons to distrust numbers, and what could not be measured.
        level: of the intervals.
    """

    rows: tuple[PublishedRow, ...]
    ratios: tuple[PublishedRatio, ...]
    notes: tuple[str, ...]
    level: float

    @property
    def caption(self) -> str:
        return (f"mean [{self.level:.0%} interval over queries]; Cover is cut at c; hub: share of the queries "
                "whose first row is the most common first row")

    def to_json(self) -> dict[str, Any]:
        """Plain values; null for what could not be scored."""
        return {"rows": [row.to_json() for row in self.rows], "ratios": [ratio.to_json() for ratio in self.ratios],
                "notes": list(self.notes), "level": self.level}

    def to_markdown(self) -> str:
        """Both tables in GitHub's Markdown, each caption and the notes below."""
        lines = []
        for cells, caption in self._tables():
            lines += ["| " + " | ".join(cells[0]) + " |", "|---" * len(cells[0]) + "|"]
            lines += ["| " + " | ".join(row.values()) + " |" for row in cells] + ["", caption + ".", ""]
        return "\n".join([*lines, *(f"- {note}" for note in self.notes)]).rstrip() + "\n"

    def to_rich(self, title: str | None = None, width: int | None = None) -> Group:
        """Both tables for the terminal; with `width`, the columns that fit in so many characters, the rest named."""
        tables: list[Table] = []
        for cells, caption in self._tables():
            room = _room(cells, width)
            if left_out := ", ".join(name for name in cells[0] if name not in room):
                caption += f"\nno room here for {left_out}"
            table = Table(title=None if tables else title, caption=escape(caption), caption_justify="left",
                          box=box.SIMPLE_HEAD)
            for name in room:
                text = name in ("model", "task", "method")
                table.add_column(name, justify="left" if text else "right", overflow="fold")
            for row in cells:
                table.add_row(*(escape(row[name]) for name in room))
            tables.append(table)
        return Group(*tables, *(escape(f"- {note}") for note in self.notes))

    def _tables(self) -> list[tuple[list[dict[str, str]], str]]:
        """Cells and caption of each table that has rows."""
        tables = [([row.cells() for row in self.rows], self.caption),
                  ([ratio.cells() for ratio in self.ratios], "each entry of the scores divided by the other's; "
                   "Pearson over all entries, Spearman the mean over queries")]
        return [table for table in tables if table[0]]


def read_published(folder: str | Path, *, resamples: int = RESAMPLES, level: float = LEVEL, seed: int = 0) -> Published:
    """Measure every file of cached scores in a folder of the authors' data (its layout is at the head of this file).

    Raises:
        WhenceError: no folder `scores` there, or no CSV in it; a CSV whose name is not of that form, or that is there
            twice; no labels for its task; scores whose shape is not that of the labels; a query of a class that no
            training row has.
    """
    folder = Path(folder)
    rows: list[PublishedRow] = []
    ratios: list[PublishedRatio] = []
    notes: list[str] = []
    found = _files(folder)
    for (model, task, epochs), keys in groupby(sorted(found, key=_place), key=lambda key: key[:3]):
        paths = {key[3]: found[key] for key in keys}
        train, queries = ((path, read_labels(path, "variation")) for path in _label_files(folder, task, paths))
        check_known(train[1], queries[1], str(train[0]), str(queries[0]))
        scores = {}
        for method, path in paths.items():
            scores[method] = read_scores(path)
            check_shape(scores[method].values, len(train[1]), len(queries[1]), str(path), str(train[0]),
                        str(queries[0]))
        how = {"resamples": resamples, "level": level, "seed": seed}
        of_task, of_intervals = _measure(model, task, epochs, scores, train[1], queries[1], how)
        rows += of_task
        notes += [f"{model}.{task}_{epochs}: {note}" for note in of_intervals]
        if {"lissa", "gmatch"} <= set(scores):
            ratios.append(_ratio(model, task, epochs, scores["lissa"], scores["gmatch"], seed))
    tasks = {path.name.split(".")[0] for path in folder.glob("*.train*.jsonl")}
    if without := sorted(tasks - {row.task for row in rows}):
        notes.append(f"labels but no scores: {', '.join(without)}")
    return Published(tuple(rows), tuple(ratios), tuple(notes), level)


def differences(rows: Sequence[PublishedRow]) -> list[str]:
    """Which of the nine files in `RECOMPUTED` do not have its Acc and Cover to three decimals; none should.

    The paper's own tables could not be retrieved. These numbers are what the paper's metric code (`check_acc_cov`:
    the class of the first row; the share of the query's class in the first floor(N / classes)) gives on the authors'
    cached scores, computed apart from whence. So this tells whether we read and measure as the authors do, not
    whether the paper printed these numbers. A file that is not among the rows is named; other rows are not compared.
    """
    here = {row.name: row for row in rows}
    lines = []
    for name, recomputed in RECOMPUTED.items():
        if name not in here:
            lines.append(f"{name}: no such row, nothing to compare")
            continue
        for what, ours, theirs in zip(("Acc", "Cover"), (here[name].acc, here[name].cover), recomputed, strict=True):
            if not abs(ours.value - theirs) <= ROUNDING:
                lines.append(f"{name}: {what} is {short(ours.value)} here and {short(theirs)} by check_acc_cov")
    return lines


def z_scored(values: Float[np.ndarray, "queries train"]) -> Float[np.ndarray, "queries train"]:
    """(values - mean) / standard deviation of each column over the queries; 0 where a column is constant.

    >>> z_scored(np.array([[1.0, 5.0], [3.0, 5.0]]))
    array([[-1.,  0.],
           [ 1.,  0.]])
    """
    spread = values.std(axis=0)
    varies = (np.ptp(values, axis=0) > 0) & (spread > 0)
    return np.where(varies, (values - values.mean(axis=0)) / np.where(varies, spread, 1.0), 0.0)


def _room(cells: list[dict[str, str]], width: int | None) -> list[str]:
    """The columns that fit; three characters are between columns."""
    widest = {name: max(len(name), *(len(row[name]) for row in cells)) + 3 for name in cells[0]}
    for name in LEAST_TELLING_FIRST:
        if width is not None and name in widest and sum(widest.values()) + 1 > width:
            del widest[name]
    return list(widest)


Key = tuple[str, str, int, str]  # model, task, epochs, method


def _place(key: Key) -> tuple[str, str, int, int]:
    return *key[:3], list(METHODS).index(key[3])


def _files(folder: Path) -> dict[Key, Path]:
    if not (folder / "scores").is_dir():
        raise WhenceError(f"{folder}: has no folder 'scores'; expected the authors' data: scores/{FORM}, and "
                          "TASK.train.jsonl and TASK.test.jsonl beside it")
    found: dict[Key, Path] = {}
    for path in sorted((folder / "scores").iterdir()):
        if not path.name.endswith((".csv", ".csv.gz")):
            continue
        match = NAME.fullmatch(path.name)
        if match is None:
            raise WhenceError(f"{path}: not the name of a file of cached scores; expected {FORM}. Rename it, or move "
                              "it elsewhere")
        key = (match[1], match[2], int(match[3]), match[4])
        if key in found:
            raise WhenceError(f"{path}: the same scores are there as {found[key].name}; keep one of them")
        found[key] = path
    if not found:
        raise WhenceError(f"{folder / 'scores'}: holds no CSV of scores; expected {FORM}")
    return found


def _label_files(folder: Path, task: str, paths: dict[str, Path]) -> list[Path]:
    """The files with the classes of the training rows and of the queries."""
    chosen = []
    for split in ("train", "test"):
        choice = [folder / f"{task}.{split}.jsonl", folder / f"{task}.{split}.labels.jsonl"]
        path = next((path for path in choice if path.is_file()), None)
        if path is None:
            raise WhenceError(f"{folder}: no labels for {', '.join(p.name for p in paths.values())}; expected "
                              f"{choice[0].name} or {choice[1].name}, a row an example with its class in 'variation'")
        chosen.append(path)
    return chosen


def _measure(model: str, task: str, epochs: int, scores: dict[str, Scores], train: list[str], queries: list[str],
             how: dict[str, Any]) -> tuple[list[PublishedRow], tuple[str, ...]]:
    """The rows of one task, and the notes on their intervals."""
    table = metric_table(scores, train, queries, metrics=METRICS, **how)

    def acc_of(values: np.ndarray) -> Estimate:
        return bootstrap_mean(accuracy(judge(values, train, queries)), query_labels=queries, **how)

    rows = [PublishedRow(
        model, task, epochs, method, len(queries), len(train), cover_cut(len(train), len(set(train))),
        **table.rows[method], chance_acc=table.chance["acc"], abs_acc=acc_of(np.abs(values)),
        z_acc=acc_of(z_scored(values)) if len(set(queries)) > 1 else None, hubs=table.hubs[method][0])
        for method, values in ((method, of_method.values) for method, of_method in scores.items())]
    return rows, table.notes


def _ratio(model: str, task: str, epochs: int, lissa: Scores, dot: Scores, seed: int) -> PublishedRatio:
    defined = dot.values != 0
    ratios = lissa.values[defined] / dot.values[defined]
    low, median, high = np.quantile(ratios, [0.25, 0.5, 0.75]) if len(ratios) else [np.nan] * 3
    vary = np.ptp(lissa.values) > 0 and np.ptp(dot.values) > 0
    pearson = np.corrcoef(lissa.values.ravel(), dot.values.ravel())[0, 1] if vary else np.nan
    return PublishedRatio(model, task, epochs, float(median), float(low), float(high), int(defined.sum()),
                          int((~defined).sum()), float(pearson), agreement(lissa, dot, seed=seed).spearman)
