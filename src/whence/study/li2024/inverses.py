"""Curvature against inverse: the same gradients under each curvature and each inverse of it, judged by retraining."""

from __future__ import annotations

import pandas as pd

from whence.study.estimate import by, difference, estimate, markdown, pick, signed
from whence.tasks.interval import Estimate

DAMPINGS = (0.1, 10.0, 100.0)
JUDGED_AT = 10.0  # the least at which conjugate gradients come close on LoRA
KINDS = (  # name of the method, curvature, inverse
    ("ekfac", "Gauss-Newton", "Kronecker"),
    ("cg", "Gauss-Newton", "exact (conjugate gradients)"),
    ("ekfac(labels=empirical)", "empirical Fisher", "Kronecker"),
    ("fisher(scope=model)", "empirical Fisher", "exact, whole model"),
    ("fisher", "empirical Fisher", "exact, by block"),
    ("lissa", "empirical Fisher", "series that converges, by block"),
    ("datainf", "empirical Fisher", "mean of inverses, by block"),
    ("gradient-dot", "none", "-"))


def at_damping(table: pd.DataFrame, method: str, damping: float, metric: str = "leave-k-out") -> pd.DataFrame:
    """The rows of one method at one damping, whether it is in the method's name or in the scoring's."""
    rows = pick(table, experiment="curvature", metric=metric)
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


def curvature(table: pd.DataFrame) -> str:
    """leave-k-out by curvature, inverse and damping; residuals of conjugate gradients; the decisive differences."""
    lines = []
    for method, curved, inverse in KINDS:
        line = [f"`{method}`", curved, inverse]
        for tune in ("lora", "full"):
            line += [str(estimate(pick(at_damping(table, method, damping), tune=tune))) for damping in DAMPINGS]
        lines.append(line)
    lines += trivial(table)
    head = [f"{tune}, damping {damping:g}" for tune in ("LoRA", "full") for damping in DAMPINGS]
    told = []
    for damping in DAMPINGS[1:]:
        for tune, part in by(at_damping(table, "cg", damping, "residual"), "tune").items():
            told.append(f"{tune}, damping {damping:g}: {part['value'].median():.1e} (largest "
                        f"{part['value'].max():.1e})")
    decisive = [[name, *(signed(compared(table, a, b, tune, damping)) for tune in ("lora", "full")
                         for damping in DAMPINGS[1:])]
                for name, a, b in (("exact inverse of the empirical Fisher minus DataInf: the solver",
                                    "fisher(scope=model)", "datainf"),
                                   ("exact Gauss-Newton minus exact empirical Fisher: the curvature",
                                    "cg", "fisher(scope=model)"),
                                   ("EK-FAC minus exact Gauss-Newton: what the Kronecker form costs", "ekfac", "cg"),
                                   ("EK-FAC minus gradient dot", "ekfac", "gradient-dot"))]
    return "\n".join([
        markdown(["method", "curvature", "inverse", *head], lines),
        "Relative residual of conjugate gradients, median over queries, then over fine-tunes: " + "; ".join(told)
        + ". Where that is not small the row is not of an exact inverse.\n",
        "Paired differences:\n", markdown(["difference", *(f"{tune}, damping {damping:g}" for tune in ("LoRA", "full")
                                                            for damping in DAMPINGS[1:])], decisive)])


def trivial(table: pd.DataFrame) -> list[list[str]]:
    """Rows of the baselines, on the same fine-tunes and banks: they know no damping."""
    own = pick(table, experiment="curvature")
    same = pick(table, experiment="causes", metric="leave-k-out", task=list(own["task"].unique()),
                model=list(own["model"].unique()))
    lines = []
    for method in ("random", "bm25", "tfidf", "repsim"):
        found = [str(estimate(pick(same, method=method, tune=tune))) for tune in ("lora", "full")]
        lines.append([f"`{method}`", "-", "-", *[found[0]] * len(DAMPINGS), *[found[1]] * len(DAMPINGS)])
    return lines


def compared(table: pd.DataFrame, method: str, other: str, tune: str | None = None,
             damping: float = JUDGED_AT) -> Estimate:
    """leave-k-out of one method minus another's, at one damping."""
    a, b = (at_damping(table, name, damping) for name in (method, other))
    return difference(*(pick(part, tune=tune) if tune else part for part in (a, b)))
