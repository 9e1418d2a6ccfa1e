"""`Spec`: a study as its file declares it, checked before anything is made.

    study: NAME
    seeds: [0, 1, 2, 3, 4]
    bases: {NAME: {steps, vocabulary, context, documents, taught}}       what a base model is pretrained on
    models: {NAME: {architecture, width, layers, heads, maps: {NAME: [patterns]}}}   for `targets: NAME` of a tune
    tasks: {NAME: {base: NAME, make: GENERATOR, OPTION: VALUE, ...}}     or train: FILE, queries: FILE
    tunes: {NAME: {recipe field: value}}
    trainings: {NAME: {switches of Encoding, epochs: FACTOR}}            `from: OTHER` takes the rest from another
    scorings: {NAME: {switches of Scoring}}                              likewise
    experiments: {NAME: {kind: scores, tasks: [...], models: [...], tunes: [...], trainings: [...], ...}}

An experiment is the product of its lists and of the seeds: a cell each. `{data}` in the path of a file is the folder
that `--data` names; without it such tasks are left out, and that is said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from whence.base.errors import WhenceError
from whence.data.rows import did_you_mean
from whence.study.encoding import Encoding, known_fields
from whence.study.rows import check_task
from whence.study.scoring import Scoring
from whence.train.recipe import Recipe

TOP = ("study", "about", "seeds", "bases", "models", "tasks", "tunes", "trainings", "scorings", "experiments")
BUILT_IN = ("li2024",)
AXES = ("tasks", "models", "tunes", "trainings")


@dataclass(frozen=True)
class Spec:
    """A checked study.

    Attributes:
        name, about: for people.
        seeds: every experiment is run with each.
        bases, models, tasks, tunes, experiments: as in the file, by name.
        trainings: switches of an encoding, and `epochs`, a factor.
        scorings: switches of a scoring.
        run_seeds: those that are run now.
        left_out: tasks whose files are not at hand.
    """

    name: str
    about: str
    seeds: tuple[int, ...]
    bases: Mapping[str, Mapping[str, Any]]
    models: Mapping[str, Mapping[str, Any]]
    tasks: Mapping[str, Mapping[str, Any]]
    tunes: Mapping[str, Mapping[str, Any]]
    trainings: Mapping[str, Mapping[str, Any]]
    scorings: Mapping[str, Mapping[str, Any]]
    experiments: Mapping[str, Mapping[str, Any]]
    run_seeds: tuple[int, ...] = ()
    left_out: tuple[str, ...] = ()

    def chosen(self, only: Sequence[str] = (), seeds: Sequence[int] = ()) -> Spec:
        """Some experiments of it (none named: all), with other seeds (none given: its own).

        Raises:
            WhenceError: an experiment that is not there.
        """
        for name in only:
            _known(name, self.experiments, f"{self.name}, --only")
        kept = {name: value for name, value in self.experiments.items() if not only or name in only}
        return replace(self, experiments=kept, run_seeds=tuple(seeds) or self.run_seeds)


def read_spec(name: str | Path, data: Path | None = None) -> Spec:
    """The study of that name, or in that file.

    Raises:
        WhenceError: no such study or file; not YAML; an entry that is unknown, missing or names what is not there
            (the place is named).
    """
    path = Path(name)
    if str(name) in BUILT_IN:
        text, where = (files("whence.study") / str(name) / f"{name}.yaml").read_text(encoding="utf-8"), str(name)
    elif path.is_file():
        text, where = path.read_text(encoding="utf-8"), str(path)
    else:
        raise WhenceError(f"study {str(name)!r}{did_you_mean(str(name), BUILT_IN)}: expected {', '.join(BUILT_IN)}, or "
                          "the path of a YAML file")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise WhenceError(f"{where}: not YAML ({error})") from None
    if not isinstance(value, dict):
        raise WhenceError(f"{where}: expected entries {', '.join(TOP)}")
    return make_spec(value, where, data)


def make_spec(value: Mapping[str, Any], where: str, data: Path | None = None) -> Spec:
    """From plain values; see `read_spec`."""
    for name in value:
        if name not in TOP:
            raise WhenceError(f"{where}: no entry {name!r}{did_you_mean(name, TOP)}; expected {', '.join(TOP)}")
    if missing := [name for name in TOP if name not in value and name != "about"]:
        raise WhenceError(f"{where}: has no entry {missing[0]!r}")
    seeds = value["seeds"]
    if not (isinstance(seeds, list) and seeds and all(isinstance(seed, int) for seed in seeds)):
        raise WhenceError(f"{where}, seeds: met {seeds!r}; expected a list of whole numbers")
    tasks, left_out = _tasks(value["tasks"], where, data)
    trainings = inherited(value["trainings"], f"{where}, trainings")
    for name, options in trainings.items():
        known_fields(Encoding, {k: v for k, v in options.items() if k != "epochs"}, f"{where}, trainings, {name}")
        Encoding.of(options)
    scorings = inherited(value["scorings"], f"{where}, scorings")
    for name, options in scorings.items():
        known_fields(Scoring, options, f"{where}, scorings, {name}")
        Scoring(**options)
    for name, options in value["tunes"].items():
        known_fields(Recipe, options, f"{where}, tunes, {name}")
    for name, options in value["tunes"].items():
        if isinstance(wanted := options.get("targets"), str):
            for model, entry in value["models"].items():
                _known(wanted, entry.get("maps", {}), f"{where}, tunes, {name}, targets (the maps of model {model})")
    spec = Spec(value["study"], value.get("about", ""), tuple(seeds), value["bases"], value["models"], tasks,
                value["tunes"], trainings, scorings, value["experiments"], tuple(seeds), left_out)
    for name, task in tasks.items():
        _known(task.get("base"), spec.bases, f"{where}, tasks, {name}, base")
    for name, experiment in spec.experiments.items():
        for axis in AXES:
            if axis not in experiment:
                raise WhenceError(f"{where}, experiments, {name}: has no {axis!r}; expected a list of names")
            known = {**getattr(spec, axis), **dict.fromkeys(left_out if axis == "tasks" else ())}
            for chosen in experiment[axis]:
                _known(chosen, known, f"{where}, experiments, {name}, {axis}")
        for chosen in experiment.get("scorings", []):
            _known(chosen, scorings, f"{where}, experiments, {name}, scorings")
    return spec


def inherited(value: Mapping[str, Any], where: str) -> dict[str, dict[str, Any]]:
    """Each entry with what it takes `from` another that stands before it.

    Raises:
        WhenceError: `from` names no entry before it.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, options in value.items():
        own = dict(options or {})
        source = own.pop("from", None)
        if source is not None:
            _known(source, found, f"{where}, {name}, from")
        found[name] = {**(found[source] if source is not None else {}), **own}
    return found


def _tasks(value: Mapping[str, Any], where: str, data: Path | None) -> tuple[dict[str, Any], tuple[str, ...]]:
    tasks, left_out = {}, []
    for name, options in value.items():
        own = dict(options)
        wants = any("{data}" in str(own.get(file, "")) for file in ("train", "queries"))
        if wants and data is None:
            left_out.append(name)
            continue
        for file in ("train", "queries"):
            if file in own:
                own[file] = str(own[file]).replace("{data}", str(data))
        base = own.pop("base", None)
        tasks[name] = {**check_task(own, f"{where}, tasks, {name}"), "base": base}
    return tasks, tuple(left_out)


def _known(name: object, among: Iterable[str], where: str) -> None:
    among = list(among)
    if name not in among:
        raise WhenceError(f"{where}: {name!r} is not there{did_you_mean(str(name), among)}; expected "
                          f"{', '.join(among)}")
