"""From a `Spec` to its cells: every experiment is the product of its lists and of the seeds.

Cells come seed by seed, so that a study that is stopped early is whole for some seeds and not half for all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from whence.base.errors import WhenceError
from whence.study.cell import Cell, known_kind
from whence.study.encoding import Encoding
from whence.study.spec import Spec

BASE = {"documents": True, "taught": 0, "phrases": 4, "heads": 4, "learning_rate": 2e-3}
BANK = {"methods": [], "asked": 0, "share": 0.1, "random": 0, "halves": 0}
INVERSE = {"dampings": [0.001, 0.01, 0.1, 1.0, 10.0, 100.0], "exact_queries": 0, "exact_dampings": [0.1],
           "iterations": 100}


@dataclass(frozen=True)
class Asked:
    """A cell whose rows go into the table, and what the study calls it.

    Attributes:
        labels: experiment, task, model, tune, training, seed.
        cell: with all it stands on.
    """

    labels: Mapping[str, Any]
    cell: Cell


def expand(spec: Spec) -> list[Asked]:
    """Every cell that the table wants, seed by seed.

    Raises:
        WhenceError: an experiment of an unknown kind, or with an option that its kind lacks.
    """
    found: list[Asked] = []
    for seed in spec.run_seeds:
        for name, experiment in spec.experiments.items():
            if seed in experiment.get("seeds", [seed]):
                found += _experiment(spec, name, experiment, seed)
    return found


def _experiment(spec: Spec, name: str, experiment: Mapping[str, Any], seed: int) -> list[Asked]:
    kind = known_kind(experiment.get("kind", "scores"))
    makers = {"scores": _scores, "inverse": _inverse, "change": _change, "fine-tune": _only_tune}
    if kind not in makers:
        raise WhenceError(f"{spec.name}, experiments, {name}: kind {kind!r} comes by itself with what needs it; "
                          f"expected {', '.join(makers)}")
    found = []
    for task in experiment["tasks"]:
        if task in spec.left_out:
            continue
        for model in experiment["models"]:
            for tune in experiment["tunes"]:
                for training in experiment["trainings"]:
                    labels = {"experiment": experiment.get("as", name), "task": task, "model": model, "tune": tune,
                              "training": training, "seed": seed}
                    tuned = fine_tune(spec, task, model, tune, training, seed, experiment)
                    for more, cell in makers[kind](spec, experiment, tuned, labels):
                        found.append(Asked({**labels, **more}, cell))
    return found


def base(spec: Spec, task: str, model: str) -> Cell:
    """The base model of a task: pretrained with its words and those of the tasks that share it."""
    name = spec.tasks[task]["base"]
    tasks = [_plain(options) for options in spec.tasks.values() if options["base"] == name]
    sizes = {name: value for name, value in spec.models[model].items() if name != "maps"}
    return Cell("base", {**BASE, **spec.bases[name], **sizes, "tasks": tasks,
                         "seed": 0})


def fine_tune(spec: Spec, task: str, model: str, tune: str, training: str, seed: int,
              experiment: Mapping[str, Any]) -> Cell:
    """The fine-tune that a row of the table is about."""
    switches = spec.trainings[training]
    recipe = {**spec.tunes[tune], **experiment.get("recipe", {})}
    recipe["epochs"] = max(1, round(recipe["epochs"] * switches.get("epochs", 1)))
    recipe.setdefault("checkpoints", 1)
    if isinstance(recipe.get("targets"), str):
        recipe["targets"] = spec.models[model]["maps"][recipe["targets"]]
    return Cell("fine-tune", {"task": _plain(spec.tasks[task]), "seed": seed, "recipe": recipe,
                              "encoding": Encoding.of(switches).to_json()}, (base(spec, task, model),))


def _scores(spec: Spec, experiment: Mapping[str, Any], tuned: Cell,
            labels: Mapping[str, Any]) -> list[tuple[dict[str, Any], Cell]]:
    options, needs = {"task": tuned.options["task"], "seed": labels["seed"]}, [tuned]
    own = experiment.get("bank")
    if own:
        needs.append(Cell("bank", {**options, "encoding": tuned.options["encoding"],
                                   **BANK, **own}, (tuned,)))
    chosen = experiment.get("scorings_of", {}).get(labels["training"], experiment["scorings"])
    common = {**options, "methods": experiment["methods"], "positive": experiment.get("positive"),
              "scorings": {name: spec.scorings[name] for name in chosen}}
    swept = {"": labels["training"], **experiment.get("swept", {})}  # gradients under another encoding than the loss
    found: list[tuple[dict[str, Any], Cell]] = []
    for suffix, training in swept.items():
        encoding = Encoding.of(spec.trainings[training]).to_json()
        for checkpoint in experiment.get("checkpoints", [None]):
            cell = Cell("scores", {**common, "encoding": encoding, "checkpoint": checkpoint}, tuple(needs))
            found.append(({"training": labels["training"] + suffix}, cell))
    return found


def _inverse(spec: Spec, experiment: Mapping[str, Any], tuned: Cell,
             labels: Mapping[str, Any]) -> list[tuple[dict[str, Any], Cell]]:
    own = {name: experiment.get(name, default) for name, default in INVERSE.items()}
    return [({}, Cell("inverse", {"task": tuned.options["task"], "seed": labels["seed"],
                                  "encoding": tuned.options["encoding"], **own}, (tuned,)))]


def _change(spec: Spec, experiment: Mapping[str, Any], tuned: Cell,
            labels: Mapping[str, Any]) -> list[tuple[dict[str, Any], Cell]]:
    reference = experiment["compared_with"]
    other = fine_tune(spec, reference, labels["model"], labels["tune"], labels["training"], labels["seed"], experiment)
    return [({}, Cell("change", {"task": tuned.options["task"], "other": other.options["task"], "seed": labels["seed"],
                                 "probes": _plain(spec.tasks[experiment["probes"]]), "marker": experiment["marker"],
                                 "encoding": tuned.options["encoding"]}, (tuned, other)))]


def _only_tune(spec: Spec, experiment: Mapping[str, Any], tuned: Cell,
               labels: Mapping[str, Any]) -> list[tuple[dict[str, Any], Cell]]:
    return [({}, tuned)]


def _plain(task: Mapping[str, Any]) -> dict[str, Any]:
    """A task's own options: the base is a need of the cells, not part of its rows."""
    return {name: value for name, value in task.items() if name != "base"}
