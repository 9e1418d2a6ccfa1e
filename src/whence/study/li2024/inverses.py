"""Curvature against inverse: the same gradients under each curvature and each inverse of it, judged by retraining."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from whence.study.estimate import above, below, by, difference, estimate, markdown, pick, signed
from whence.tasks.interval import Estimate

TUNES = ("lora", "full")
KINDS = (  # name of the method, curvature, inverse
    ("ekfac", "Gauss-Newton", "Kronecker"),
    ("cg", "Gauss-Newton", "exact (conjugate gradients)"),
    ("ekfac(labels=empirical)", "empirical Fisher", "Kronecker"),
    ("fisher(scope=model)", "empirical Fisher", "exact, whole model"),
    ("fisher", "empirical Fisher", "exact, by block"),
    ("lissa", "empirical Fisher", "series that converges, by block"),
    ("datainf", "empirical Fisher", "mean of inverses, by block"),
    ("gradient-dot", "none", "-"))
TRIVIAL = ("random", "bm25", "tfidf", "repsim")
STEPS = (  # from DataInf to the exact inverse of the Gauss-Newton matrix, one thing changed at a time
    ("the solver (the same blocks of the empirical Fisher, inverted exactly)", "fisher", "datainf"),
    ("the blocks (one empirical Fisher of the whole model, inverted exactly)", "fisher(scope=model)", "fisher"),
    ("the curvature (the Gauss-Newton matrix of the whole model, inverted exactly)", "cg", "fisher(scope=model)"))
DECISIVE = (  # what is compared, one method, the other
    ("exact by-block empirical Fisher minus DataInf: the solver", "fisher", "datainf"),
    ("exact whole-model minus exact by-block empirical Fisher: the blocks", "fisher(scope=model)", "fisher"),
    ("exact Gauss-Newton minus exact empirical Fisher, both whole-model: the curvature", "cg", "fisher(scope=model)"),
    ("exact whole-model empirical Fisher minus DataInf: solver and blocks", "fisher(scope=model)", "datainf"),
    ("exact Gauss-Newton minus exact by-block empirical Fisher: blocks and curvature", "cg", "fisher"),
    ("EK-FAC minus exact by-block empirical Fisher", "ekfac", "fisher"),
    ("EK-FAC minus exact Gauss-Newton: what blocks and the Kronecker form cost", "ekfac", "cg"),
    ("EK-FAC on sampled labels minus on the data's", "ekfac", "ekfac(labels=empirical)"),
    ("EK-FAC minus gradient dot", "ekfac", "gradient-dot"))


@dataclass(frozen=True)
class Bench:
    """Fine-tunes and banks on which inverses are compared.

    Attributes:
        experiment: its name in the table.
        dampings: x mean eigenvalue, those that were tried.
        metric: what the bank says best: `leave-k-out`, or `lds` where it has halves.
        baselines: the experiment that holds the trivial baselines of the same fine-tunes and banks.
    """

    experiment: str
    dampings: tuple[float, ...]
    metric: str
    baselines: str


COPYING = Bench("curvature", (0.1, 10.0, 100.0), "leave-k-out", "causes")
MORE_ROWS = Bench("curvature, more rows", (0.1, 1.0, 10.0), "lds", "curvature, more rows")
JUDGED_AT = 10.0  # the least damping at which conjugate gradients come close on both benches


def at_damping(table: pd.DataFrame, bench: Bench, method: str, damping: float, metric: str = "") -> pd.DataFrame:
    """The rows of one method at one damping, whether it is in the method's name or in the scoring's."""
    rows = pick(table, experiment=bench.experiment, metric=metric or bench.metric)
    if method in ("fisher", "lissa", "datainf"):
        return pick(rows, method=method, scoring="corrected" if damping == 0.1 else f"corrected, damping {damping:g}")
    names = [name for name in rows["method"].unique() if _is(str(name), method, damping)]
    return pick(rows, method=names, scoring="corrected")


def _is(name: str, method: str, damping: float) -> bool:
    """Whether `name` is `method` with this damping, whatever its other options; .1 is the default."""
    head, _, inside = name.rstrip(")").partition("(")
    wanted, _, options = method.rstrip(")").partition("(")
    given = dict(part.split("=") for part in inside.replace(" ", "").split(",") if part)
    own = float(given.pop("damping", 0.1))
    if head == "cg":
        given = {}
    return head == wanted and given == dict(part.split("=") for part in options.split(",") if part) and (
        own == damping or head == "gradient-dot")


def by_damping(table: pd.DataFrame, bench: Bench) -> str:
    """Agreement with retraining by curvature, inverse and damping; residuals of conjugate gradients."""
    lines = []
    for method, curved, inverse in KINDS:
        line = [f"`{method}`", curved, inverse]
        for tune in TUNES:
            line += [str(estimate(pick(at_damping(table, bench, method, damping), tune=tune)))
                     for damping in bench.dampings]
        lines.append(line)
    head = [f"{_shown(tune)}, damping {damping:g}" for tune in TUNES for damping in bench.dampings]
    return "\n".join([markdown(["method", "curvature", "inverse", *head], lines + trivial(table, bench)),
                      residuals(table, bench)])


def trivial(table: pd.DataFrame, bench: Bench) -> list[list[str]]:
    """Rows of the baselines, on the same fine-tunes and banks: they know no damping."""
    own = pick(table, experiment=bench.experiment)
    same = pick(table, experiment=bench.baselines, metric=bench.metric, scoring="corrected",
                task=list(own["task"].unique()), model=list(own["model"].unique()))
    lines = []
    for method in TRIVIAL:
        found = [str(estimate(pick(same, method=method, tune=tune))) for tune in TUNES]
        lines.append([f"`{method}`", "-", "-", *(cell for cell in found for _ in bench.dampings)])
    return lines


def residuals(table: pd.DataFrame, bench: Bench) -> str:
    """How far conjugate gradients got."""
    told = []
    for damping in bench.dampings:
        for tune, part in by(at_damping(table, bench, "cg", damping, "residual"), "tune").items():
            told.append(f"{_shown(str(tune))}, damping {damping:g}: {part['value'].median():.1e} (largest "
                        f"{part['value'].max():.1e})")
    return ("Relative residual of conjugate gradients, median over queries, then over fine-tunes: " + "; ".join(told)
            + ". Where that is not small the row is not of an exact inverse.\n") if told else ""


def decisive(table: pd.DataFrame, bench: Bench, dampings: Sequence[float], metrics: Sequence[str]) -> str:
    """Paired differences: what the solver does, what the curvature does."""
    places = [(metric, tune, damping) for metric in metrics for tune in TUNES for damping in dampings]
    lines = [[name, *(signed(compared(table, bench, a, b, tune, damping, metric)) for metric, tune, damping in places)]
             for name, a, b in DECISIVE]
    return markdown(["difference", *(f"{metric}: {_shown(tune)}, damping {damping:g}"
                                     for metric, tune, damping in places)], lines)


def compared(table: pd.DataFrame, bench: Bench, method: str, other: str, tune: str | None = None,
             damping: float = JUDGED_AT, metric: str = "") -> Estimate:
    """Agreement with retraining of one method minus another's, at one damping."""
    a, b = (at_damping(table, bench, name, damping, metric) for name in (method, other))
    return difference(*(pick(part, tune=tune) if tune else part for part in (a, b)))


def parts(table: pd.DataFrame, bench: Bench = MORE_ROWS) -> str:
    """Which part of the errors is the solver's and which the curvature's, in words, from the intervals."""
    lines = ["**Which part is the solver, and which the curvature?**"]
    for tune in TUNES:
        whole = compared(table, bench, "cg", "datainf", tune)
        if whole.n:
            steps = [(name, compared(table, bench, a, b, tune)) for name, a, b in STEPS]
            lines.append(f"With {_shown(tune)}, damping {JUDGED_AT:g}: from DataInf to the exact inverse of the "
                         f"Gauss-Newton matrix {signed(whole)}; of that "
                         + ", ".join(f"{name} {signed(found)}, {_told(found)}" for name, found in steps) + ".")
        weak = compared(table, bench, "fisher", "datainf", tune, bench.dampings[0])
        other = compared(table, bench, "ekfac", "fisher", tune, bench.dampings[0])
        if weak.n:
            lines.append(f"At damping {bench.dampings[0]:g} the solver is {signed(weak)}, {_told(weak)}, and EK-FAC "
                         f"minus the exact by-block Fisher {signed(other)}, {_told(other)}.")
    return " ".join(lines) + "\n"


def _told(found: Estimate) -> str:
    return "a gain" if above(found) else "a loss" if below(found) else "not clear of zero"


def _shown(tune: str) -> str:
    return {"lora": "LoRA", "full": "all weights"}.get(tune, tune)
