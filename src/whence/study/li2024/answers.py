"""Which published conclusion stands? Each answered by a rule stated beforehand, from the study's table alone.

A verdict is *holds*, *does not hold here*, *artefact* (holds as published and not once the defects are repaired) or
*open* (the intervals do not say). The rules compare 95 % intervals; none looks at a single mean.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import t as student

from whence.study.estimate import above, below, difference, difference_of, estimate, matrix, pick, signed
from whence.study.li2024.inverses import COPYING, JUDGED_AT, MORE_ROWS, STEPS, compared
from whence.study.li2024.tables import PUBLISHED_METHODS
from whence.tasks.interval import Estimate, short

HOLDS, FAILS, ARTEFACT, OPEN = "holds", "does not hold here", "artefact", "open"
NEAR_ONE = 0.9
SHORT_SHARE = 16 / 120  # of the rows of the task `short rows`


@dataclass(frozen=True)
class Answer:
    """One published conclusion.

    Attributes:
        claim: as published.
        verdict: one of the four.
        rule: what the verdict was decided by.
        evidence: the numbers.
    """

    claim: str
    verdict: str
    rule: str
    evidence: str


def mean(table: pd.DataFrame, **wanted: object) -> Estimate:
    """Of the rows that are wanted."""
    return estimate(pick(table, **wanted))


def poor(table: pd.DataFrame) -> Answer:
    """Influence functions perform poorly in most settings."""
    lexical, wins, losses, lines = {}, {"published": 0, "corrected": 0}, {"published": 0, "corrected": 0}, []
    paper = pick(table, experiment="paper", metric="acc")
    tasks = list(dict.fromkeys(paper["task"]))
    for setting in ("published", "corrected"):
        for task in tasks:
            rows = pick(paper, task=task, training=setting, scoring=setting)
            lexical[task] = matrix(pick(rows, method="tfidf"))
            found = difference_of(matrix(pick(rows, method=PUBLISHED_METHODS)), lexical[task])
            wins[setting] += above(found)
            losses[setting] += below(found)
        lines.append(f"{setting}: mean Acc of gradient dot, DataInf and LiSSA "
                     f"{mean(paper, training=setting, scoring=setting, method=PUBLISHED_METHODS)}, TF-IDF "
                     f"{mean(paper, training=setting, scoring=setting, method='tfidf')}; above TF-IDF in "
                     f"{wins[setting]}, below in {losses[setting]} of {len(tasks)} tasks")
    most = len(tasks) / 2
    verdict = (ARTEFACT if losses["published"] > most >= losses["corrected"] else
               HOLDS if losses["corrected"] > most else FAILS)
    return Answer("Influence functions consistently perform poorly (class match).", verdict,
                  "holds where their mean Acc lies below TF-IDF's in more than half of the tasks, corrected",
                  "; ".join(lines))


def repsim(table: pd.DataFrame) -> Answer:
    """RepSim is near 100 % nearly everywhere, and is what should be used."""
    rows = pick(table, experiment="causes", training="corrected", scoring="corrected", metric="leave-k-out")
    best = difference(pick(rows, method="repsim"), pick(rows, method="gradient-dot"))
    ekfac = difference(pick(rows, method="repsim"), pick(rows, method="ekfac"))
    acc = mean(table, experiment="paper", metric="acc", method="repsim", training="corrected")
    verdict = HOLDS if above(best) and above(ekfac) else FAILS if below(best) and below(ekfac) else OPEN
    return Answer("RepSim finds the rows that matter, influence does not.", verdict,
                  "holds where RepSim agrees with retraining better than gradient dot and EK-FAC, fails where worse "
                  "than both",
                  f"class match: Acc {acc}; by retraining (leave-k-out) RepSim {mean(rows, method='repsim')}, "
                  f"minus gradient dot {signed(best)}, minus EK-FAC {signed(ekfac)}")


def lissa(table: pd.DataFrame) -> Answer:
    """Hessian-based scores look like Hessian-free ones."""
    rows = pick(table, metric="as gradient-dot", method="lissa")
    published = mean(rows, experiment="switches", training="published", scoring="published")
    corrected = mean(rows, experiment="switches", training="published", scoring="LiSSA corrected")
    both = mean(rows, experiment="paper", training="corrected", scoring="corrected")
    verdict = ARTEFACT if published.low > NEAR_ONE > both.high else HOLDS if both.low > NEAR_ONE else OPEN
    return Answer("LiSSA's scores look exactly like Hessian-free ones, so the inverse Hessian is approximated badly.",
                  verdict, f"artefact where the rank correlation is above {NEAR_ONE} with the published recursion and "
                  "below it with one that converges",
                  f"rank correlation with gradient dot: published recursion {published}, convergent, else as published "
                  f"{corrected}, all corrected {both}")


def reason_one(table: pd.DataFrame) -> Answer:
    """The first reason: errors of the inverse-Hessian product; judged on the bank with halves, if there is one."""
    bench = MORE_ROWS if MORE_ROWS.experiment in set(table["experiment"]) else COPYING
    exact, wider, curved = (compared(table, bench, a, b) for _, a, b in STEPS)
    little = compared(table, bench, *STEPS[0][1:], damping=bench.dampings[0])
    first = compared(table, bench, "fisher(scope=model)", "datainf")
    verdict = HOLDS if above(exact) else FAILS if above(curved) or below(exact) else OPEN
    return Answer("Reason 1: inevitable errors of the inverse-Hessian product.", verdict,
                  "holds where inverting the same curvature exactly (the same blocks of the empirical Fisher) follows "
                  "retraining better than DataInf; fails where that is worse, or where only another curvature helps",
                  f"{bench.metric} at damping {JUDGED_AT:g}: exact inverse of the same blocks, minus DataInf: "
                  f"{signed(exact)} (at damping {bench.dampings[0]:g}: {signed(little)}); of the whole model instead "
                  f"of its blocks: {signed(wider)}; another curvature (Gauss-Newton), inverted exactly, minus that: "
                  f"{signed(curved)}. The rule as first written took the whole model's Fisher for DataInf's: "
                  f"{signed(first)}, by which it would {'hold' if above(first) else 'not hold'}")


def harmful(table: pd.DataFrame) -> Answer:
    """Harmful-data identification fails because short rows win."""
    rows = pick(table, experiment="short rows", task="short rows", method=PUBLISHED_METHODS)
    start = pick(rows, training="published", scoring="published")
    masked = pick(rows, training="pads masked", scoring="published")
    first = {name: mean(part, metric="top-1 is short") for name, part in (("published", start), ("masked", masked))}
    gain = difference(pick(masked, metric="acc"), pick(start, metric="acc"))
    without = mean(table, experiment="short rows", task="no short rows", training="published", scoring="published",
                   metric="acc", method=PUBLISHED_METHODS)
    counted = above(first["published"], SHORT_SHARE)
    verdict = ARTEFACT if counted and above(gain) else FAILS if not counted else OPEN
    return Answer("Harmful rows are not found by influence (Acc 0 to 7 %).", verdict,
                  "artefact of padding where short rows come first more often than chance as published, and Acc rises "
                  "when pads are masked; fails (no such artefact) where short rows do not come first",
                  f"a short row comes first: as published {first['published']} (chance {short(SHORT_SHARE)}), pads "
                  f"masked {first['masked']}; Acc as published {mean(start, metric='acc')}, change when pads are "
                  f"masked {signed(gain)}; Acc without any short rows {without}")


def rows_of(table: pd.DataFrame, experiment: str) -> pd.DataFrame:
    """Of an experiment whose fine-tunes are all of one kind, with gradients of another."""
    return pick(table, experiment=experiment, method=PUBLISHED_METHODS,
                training=[name for name in table["training"].unique() if " / " in str(name)])


def pads(table: pd.DataFrame) -> str:
    """Does masking pads remove outliers of short rows? In words, from the intervals of how often one comes first."""
    rows = pick(table, experiment="short rows", task="short rows", method=PUBLISHED_METHODS, metric="top-1 is short")
    start = pick(rows, training="published", scoring="published")
    masked, summed = (pick(rows, training="pads masked", scoring=scoring) for scoring in ("published", "sum loss"))
    first, then, fully = (estimate(part) for part in (start, masked, summed))
    change, rescued = difference(masked, start), difference(summed, masked)
    lines = ["**Does masking pads remove the outliers?**"]
    if above(first, SHORT_SHARE):
        lines.append("Yes: short rows come first more often than chance as published, and less often without pads."
                     if below(change) else "No: short rows come first more often than chance with pads and without.")
    else:
        lines.append(f"With pads in the loss there are none here: a short row comes first for {first} of the queries, "
                     f"and chance is {short(SHORT_SHARE)}.")
    if above(then, SHORT_SHARE):
        more = "*makes* them" if above(change) else "leaves some" if below(change) else "changes nothing of them"
        lines.append(f"Masking pads {more} ({then}, a change of {signed(change)}): the published loss is a mean over "
                     "a row's tokens, so a row of few tokens has a large gradient once its padding no longer counts "
                     "among them. With the sum over tokens "
                     + ("short rows still come first" if above(fully, SHORT_SHARE) else "they are gone")
                     + f" ({fully}, {signed(rescued)}).")
    for experiment, where in (
            ("short rows, training", "Where gradients count padding that the fine-tune never saw,"),
            ("short rows, first version", "As the first version of the published code had it (padded on the right to "
             "train and on the left to attribute, the prompt counted only then),")):
        found = mean(pick(rows_of(table, experiment), scoring="published"), metric="top-1 is short")
        if found.n:
            lines.append(f"{where} a short row comes first for {found}.")
    return " ".join(lines) + "\n"


def triggers(table: pd.DataFrame) -> Answer:
    """Influence degrades with the number of triggers."""
    found, lines = {}, []
    for setting in ("published", "corrected"):
        rows = pick(table, experiment="paper", metric="acc", training=setting, scoring=setting,
                    method=PUBLISHED_METHODS)
        one, five = (pick(rows, task=task).groupby("seed", observed=True)["value"].mean()
                     for task in ("1 trigger", "5 triggers"))
        common = one.index.intersection(five.index)
        gap = (five[common] - one[common]).to_numpy()
        half = student.ppf(0.975, len(gap) - 1) * gap.std(ddof=1) / np.sqrt(len(gap)) if len(gap) > 1 else np.nan
        found[setting] = (gap.mean(), half)
        lines.append(f"{setting}: 1 trigger {mean(rows, task='1 trigger')}, 3 {mean(rows, task='3 triggers')}, 5 "
                     f"{mean(rows, task='5 triggers')}; 5 minus 1: {gap.mean():+.3f} ± {half:.3f} (over seeds)")
    worse = {setting: bool(value + half < 0) for setting, (value, half) in found.items()}
    verdict = (HOLDS if worse["corrected"] else ARTEFACT if worse["published"] else FAILS)
    return Answer("Influence finds one trigger and degrades with three and five.", verdict,
                  "holds where Acc with five triggers lies below Acc with one, corrected", "; ".join(lines))


def convergence(table: pd.DataFrame) -> Answer:
    """The second reason: the fine-tune has not converged."""
    rows = pick(table, experiment="switches", method=PUBLISHED_METHODS, scoring="published")
    change = {metric: difference(pick(rows, training="longer training", metric=metric),
                                 pick(rows, training="published", metric=metric)) for metric in ("acc", "leave-k-out")}
    verdict = HOLDS if above(change["leave-k-out"]) else FAILS if below(change["leave-k-out"]) else OPEN
    return Answer("Reason 2: the fine-tune has not converged where influence is computed.", verdict,
                  "holds where training twice as long raises agreement with retraining",
                  f"twice the steps: Acc {signed(change['acc'])}, leave-k-out {signed(change['leave-k-out'])}")


def behaviour(table: pd.DataFrame) -> Answer:
    """The third reason: a change of parameters is not one of behaviour."""
    rows = pick(table, experiment="change")
    last = rows[rows["step"] == rows.groupby(["task", "model", "seed"], observed=True)["step"].transform("max")]
    norms = last[last["metric"] == "norm"].groupby("task", observed=True)["value"].mean()
    rates = last[last["metric"] == "marker rate, marked"].groupby("task", observed=True)["value"].mean()
    kl = last[last["metric"] == "KL"].groupby("task", observed=True)["value"].mean()
    ratio, swing = norms.max() / norms.min(), rates.max() - rates.min()
    verdict = HOLDS if ratio < 2 and swing > 0.5 else FAILS if ratio > 4 or swing < 0.2 else OPEN
    return Answer("Reason 3: the size of the parameter change does not tell the behaviour.", verdict,
                  "holds where the marker's rate differs by more than .5 between fine-tunes whose dW differ in size by "
                  "less than a factor of two",
                  f"from benign to 20/20 the size of dW differs {ratio:.2f} x, the rate of marked answers by "
                  f"{short(swing)}, "
                  f"KL to the base {kl.max() / kl.min():.2f} x. A size has no direction: this says nothing of scores, "
                  "which are inner products")


def mathematics(table: pd.DataFrame) -> Answer:
    """The one task where influence succeeds is gradient matching."""
    rows = pick(table, experiment="paper", task="math", metric="acc", training="corrected", scoring="corrected")
    dot, lexical = (estimate(pick(rows, method=name)) for name in ("gradient-dot", "tfidf"))
    gap = difference(pick(rows, method=["datainf", "lissa"]), pick(rows, method="gradient-dot"))
    verdict = HOLDS if not above(gap) and not below(lexical, dot.low) else OPEN
    return Answer("Influence succeeds on the word problems alone, by matching gradients.", verdict,
                  "holds where DataInf and LiSSA are not above gradient dot, and words alone do as well",
                  f"Acc: gradient dot {dot}, DataInf and LiSSA minus it {signed(gap)}, TF-IDF {lexical}")


RULES: tuple[Callable[[pd.DataFrame], Answer], ...] = (
    poor, repsim, lissa, reason_one, harmful, triggers, convergence, behaviour, mathematics)


def answers(table: pd.DataFrame) -> list[Answer]:
    """One for each published conclusion whose experiments are in the table."""
    needed: dict[object, str] = {
        poor: "paper", repsim: "causes", lissa: "switches", reason_one: COPYING.experiment, harmful: "short rows",
        triggers: "paper", convergence: "switches", behaviour: "change", mathematics: "paper"}
    there = set(table["experiment"].unique())
    return [rule(table) for rule in RULES if needed[rule] in there]
