"""The tables of the page: every number a mean with its 95 % interval over seeds and queries."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from whence.study.estimate import above, below, by, difference, difference_of, estimate, markdown, matrix, pick, signed
from whence.tasks.interval import Estimate, short

PUBLISHED_METHODS = ("gradient-dot", "datainf", "lissa")  # those the paper tests
METRICS = ("acc", "cover", "auprc", "leave-k-out")
LESS_THAN = {  # a switch -> (training, scoring) it is; everything else as published
    "pads not in the loss": ("pads masked", "published"),
    "pads seen by attention": ("pads seen", "published"),
    "prompt not in the loss": ("prompt masked", "published"),
    "EOS after the answer": ("EOS", "published"),
    "padding on the right": ("right padding", "published"),
    "maximal length 112 instead of 80": ("longer rows", "published"),
    "trained twice as long": ("longer training", "published"),
    "LiSSA that converges": ("published", "LiSSA corrected"),
    "one damping for all blocks": ("published", "damping global"),
    "damping x 10": ("published", "damping x 10"),
    "damping / 10": ("published", "damping / 10"),
    "A and B of a map in one block": ("published", "module blocks"),
    "the whole model in one block": ("published", "model block"),
    "divided by the row's gradient norm": ("published", "unit norm"),
    "divided by the row's scale over queries": ("published", "column scale"),
    "ranked by the absolute value": ("published", "absolute"),
    "sum instead of mean over tokens": ("published", "sum loss"),
    "outlier rows dropped": ("published", "outliers dropped"),
    "queries of all classes": ("published", "all queries"),
    "all corrected together": ("corrected", "corrected"),
    "all corrected, and divided by the norm": ("corrected", "corrected, unit norm"),
}


def switches(table: pd.DataFrame) -> str:
    """Change of each metric when one switch leaves the published setting; mean of the three published methods."""
    rows = pick(table, experiment="switches", method=PUBLISHED_METHODS)
    start = {metric: pick(rows, training="published", scoring="published", metric=metric) for metric in METRICS}
    lines = [["as published", *(str(estimate(start[metric])) for metric in METRICS)]]
    for name, (training, scoring) in LESS_THAN.items():
        changed = pick(rows, training=training, scoring=scoring)
        if len(changed):
            lines.append([name, *(signed(change(changed, start[metric], metric)) for metric in METRICS)])
    training, scoring = LESS_THAN["all corrected together"]
    together = pick(rows, training=training, scoring=scoring)
    lines.append(["all corrected together, on the published queries alone", *(
        signed(difference_of(matrix(pick(together, metric=metric)), matrix(start[metric]))) for metric in METRICS)])
    both = {name: pick(rows, training="published", scoring="published", metric=name)
            for name in ("cover", "cover_at_positives")}
    cut = difference(both["cover_at_positives"], both["cover"])
    lines.append(["Cover cut at the number of right rows", "-", signed(cut), "-", "-"])
    return markdown(["switch", "Acc", "Cover", "AUPRC", "leave-k-out"], lines)


def moved(table: pd.DataFrame) -> str:
    """The switches whose interval is clear of zero, in words."""
    rows = pick(table, experiment="switches", method=PUBLISHED_METHODS)
    lines = []
    for metric, name in (("acc", "Acc"), ("leave-k-out", "leave-k-out")):
        start = pick(rows, training="published", scoring="published", metric=metric)
        changes = {switch: change(pick(rows, training=training, scoring=scoring), start, metric)
                   for switch, (training, scoring) in LESS_THAN.items()}
        told = [f"{what} by {', '.join(names) if names else 'none'}" for what, names in (
            ("raised", [switch for switch, found in changes.items() if above(found)]),
            ("lowered", [switch for switch, found in changes.items() if below(found)]))]
        lines.append(f"**{name}** is {'; '.join(told)}")
    return (f"Clear of zero, of {len(LESS_THAN)} switches, of which one in twenty would be by chance: "
            + ". ".join(lines) + ".\n")


def change(changed: pd.DataFrame, start: pd.DataFrame, metric: str) -> Estimate:
    """Paired, of the queries that both have."""
    return difference(pick(changed, metric=metric), start)


def switches_by_method(table: pd.DataFrame) -> str:
    """The same, method by method, for Acc and leave-k-out."""
    rows = pick(table, experiment="switches")
    lines = []
    for name, (training, scoring) in LESS_THAN.items():
        line = [name]
        for method in PUBLISHED_METHODS:
            own = pick(rows, method=method)
            for metric in ("acc", "leave-k-out"):
                start = pick(own, training="published", scoring="published", metric=metric)
                line.append(signed(change(pick(own, training=training, scoring=scoring), start, metric)))
        if any(cell != "-" for cell in line[1:]):
            lines.append(line)
    head = [f"{method}: {metric}" for method in PUBLISHED_METHODS for metric in ("Acc", "leave-k-out")]
    return markdown(["switch", *head], lines)


def repsim_choices(table: pd.DataFrame) -> str:
    """Token, layer and model of RepSim: class match and truth."""
    rows = pick(table, experiment="causes", training="corrected")
    found = []
    for method, part in by(rows, "method").items():
        if str(method).startswith("repsim"):
            found.append([f"`{method}`", *(str(estimate(pick(part, metric=metric)))
                                          for metric in ("acc", "auprc", "leave-k-out"))])
    return markdown(["RepSim", "Acc", "AUPRC", "leave-k-out"], found)


def paper(table: pd.DataFrame) -> str:
    """The paper's tasks, as published and corrected: Acc and AUPRC of each method, all models together."""
    rows = pick(table, experiment=["paper", "paper, files"])
    shown = ("random", "bm25", "tfidf", "repsim", *PUBLISHED_METHODS, "fisher", "ekfac")
    lines = []
    for task, part in by(rows, "task").items():
        for setting in ("published", "corrected"):
            trainings = [name for name in part["training"].unique() if str(name).startswith(setting)]
            own = pick(part, training=trainings, scoring=setting)
            for metric, name in (("acc", "Acc"), ("auprc", "AUPRC")):
                cells = [str(estimate(pick(own, method=method, metric=metric))) for method in shown]
                lines.append([str(task), setting, name, *cells])
    return markdown(["task", "setting", "metric", *shown], lines)


def seeds(table: pd.DataFrame) -> str:
    """How much one seed says: the spread of Acc over seeds of one task and model."""
    rows = pick(table, experiment="paper", training="published", scoring="published", metric="acc",
                method=PUBLISHED_METHODS)
    means = rows.groupby(["task", "model", "method", "seed"], observed=True)["value"].mean().unstack("seed")
    spread = (means.max(axis=1) - means.min(axis=1)).groupby("task", observed=True, sort=False).agg(["median", "max"])
    return markdown(["task", "median range of Acc over seeds", "largest"],
                    [[str(task), short(row["median"]), short(row["max"])] for task, row in spread.iterrows()])


def short_rows(table: pd.DataFrame) -> str:
    """The experiment on pads: who comes first, and how large short rows are."""
    conditions = [("short rows", "short rows", "published", "published", "as published"),
                  ("short rows", "short rows", "pads masked", "published", "pads masked in training and gradients"),
                  ("short rows, gradients", "short rows", "published / pads masked in gradients", "published",
                   "pads masked in the gradients alone"),
                  ("short rows, training", "short rows", "pads masked / pads counted in gradients", "published",
                   "pads masked in training alone"),
                  ("short rows", "short rows", "prompt masked", "published", "prompt masked, pads in the loss"),
                  ("short rows", "short rows", "pads seen", "published", "pads seen by attention"),
                  ("short rows", "short rows", "right padding", "published", "padding on the right"),
                  ("short rows, first version", "short rows", "first version / padded on the left for gradients",
                   "published", "the code's first version: padded on the right to train, on the left to attribute"),
                  ("short rows", "short rows", "published", "sum loss", "as published, sum over tokens"),
                  ("short rows", "short rows", "pads masked", "sum loss", "pads masked, sum over tokens"),
                  ("short rows", "short rows", "published", "unit norm", "as published, divided by the norm"),
                  ("short rows", "short rows", "published", "outliers dropped", "as published, outliers dropped"),
                  ("short rows", "short rows", "corrected", "corrected", "all corrected"),
                  ("short rows", "no short rows", "published", "published", "no short rows, as published"),
                  ("short rows", "no short rows", "pads masked", "published", "no short rows, pads masked")]
    lines = []
    for experiment, task, training, scoring, name in conditions:
        rows = pick(table, experiment=experiment, task=task, training=training, scoring=scoring)
        if rows.empty:
            continue
        line = [name]
        for method in PUBLISHED_METHODS:
            own = pick(rows, method=method)
            line += [str(estimate(pick(own, metric="acc"))), str(estimate(pick(own, metric="top-1 is short")))]
        sizes = pick(rows, metric="short / other size", method="gradient-dot")["value"]
        line.append(short(float(sizes.median())) if len(sizes) else "-")
        lines.append(line)
    head = [f"{method}: {what}" for method in PUBLISHED_METHODS for what in ("Acc", "first row is short")]
    return markdown(["condition", *head, "scores of short rows over others', gradient-dot"], lines)


def causes(table: pd.DataFrame, methods: Sequence[str]) -> str:
    """Who finds the class, and who finds the cause: tasks by methods."""
    rows = pick(table, experiment="causes", training="corrected", scoring="corrected")
    lines = []
    for task, part in by(rows, "task").items():
        for tune, own in by(part, "tune").items():
            for metric, name in (("acc", "class: Acc"), ("leave-k-out", "retraining: leave-k-out")):
                cells = [str(estimate(pick(own, metric=metric, method=method))) for method in methods]
                lines.append([str(task), str(tune), name, *cells])
    return markdown(["task", "fine-tune", "judged by", *methods], lines)


def learned(table: pd.DataFrame) -> str:
    """Was the task learned? Greedy answers of the queries, by task and training."""
    rows = pick(table, experiment="learned")
    lines = []
    for (task, tune), part in rows.groupby(["task", "tune"], observed=True, sort=False):
        for training, own in by(part, "training").items():
            def mean(metric: str, own: pd.DataFrame = own) -> str:
                values = pick(own, metric=metric).groupby("seed", observed=True)["value"].mean()
                return f"{short(values.mean())} [{short(values.min())}, {short(values.max())}]"

            lines.append([str(task), str(tune), str(training), mean("query exact match"), mean("train exact match"),
                          mean("query loss"), mean("share of filling")])
    return markdown(["task", "fine-tune", "training", "queries answered exactly", "training rows answered exactly",
                     "query loss, nats a token", "share of filling"], lines)


def sizes(table: pd.DataFrame) -> str:
    """Acc by model, all tasks together: does it change with architecture and size?"""
    rows = pick(table, experiment="paper", metric="acc")
    shared = set.intersection(*(set(part["task"].unique()) for part in by(rows, "model").values()))
    lines = []
    for model, part in by(pick(rows, task=sorted(shared)), "model").items():
        for setting in ("published", "corrected"):
            own = pick(part, training=setting, scoring=setting)
            lines.append([str(model), setting, *(str(estimate(pick(own, method=method)))
                                                 for method in ("tfidf", "repsim", *PUBLISHED_METHODS, "ekfac"))])
    return (f"Acc by model, on {', '.join(sorted(shared))}:\n\n"
            + markdown(["model", "setting", "tfidf", "repsim", *PUBLISHED_METHODS, "ekfac"], lines))


def spectrum(table: pd.DataFrame) -> str:
    """The curvature's spectrum and what a damping of .1 leaves of it, by size."""
    rows = pick(table, experiment=["inverse", "inverse, sizes"])
    facts = ("parameters", "rank", "stable_rank", "effective_rank", "effective_dimension", "ratio", "identity_error")
    lines = []
    for (model, tune), part in rows.groupby(["model", "tune"], observed=True, sort=False):
        own = part[(part["damping"] == 0.1) | part["damping"].isna()]
        means = own[own["metric"].isin(facts)].groupby("metric", observed=True)["value"].mean()
        angles = own[(own["metric"] == "angle") & (own["scoring"] == "empirical Fisher")]
        lines.append([str(model), str(tune), *(f"{means[name]:,.4g}" if name in means else "-" for name in facts),
                      *(str(estimate(pick(angles, method=method))) for method in ("identity", "datainf", "lissa"))])
    residual = pick(rows, method="cg", metric="residual")["value"]
    note = (f"Conjugate gradients' relative residual: median {residual.median():.1e}, largest "
            f"{pick(rows, method='cg', metric='largest residual')['value'].max():.1e}.\n") if len(residual) else ""
    return markdown(["model", "fine-tune", "parameters", "rank", "stable rank", "effective rank",
                     "effective dimension at 0.1", "largest eigenvalue / damping", "Theorem 1's relative bound",
                     "angle: gradient dot", "angle: DataInf", "angle: LiSSA"], lines) + "\n" + note


def changes(table: pd.DataFrame) -> str:
    """The end of each fine-tune."""
    rows = pick(table, experiment="change")
    last = rows[rows["step"] == rows.groupby(["task", "model", "seed"], observed=True)["step"].transform("max")]
    metrics = ("norm", "published norm", "cosine", "loss, marked", "loss, normal", "KL", "marker rate, marked",
               "marker rate, normal")
    lines = [[str(task), *(str(estimate(pick(part, metric=metric))) for metric in metrics)]
             for task, part in by(last, "task").items()]
    return markdown(["fine-tune", *metrics], lines)
