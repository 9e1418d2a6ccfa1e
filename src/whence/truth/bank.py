"""A retrain bank: what every query's measurement becomes when a model is trained on a subset of its rows.

    BANK/bank.json              what all members have in common: base, data, recipe, machine facts
    BANK/train.parquet          the training rows
    BANK/members/KEY.npz        of one member: kept [N], seed, losses [steps]; KEY is `Subset.key`
    BANK/members/KEY.safetensors    its trained weights, where they are kept
    BANK/outcomes/QUERIES/KEY.npz   values and wrong_tokens [Q] of one set of queries (by content and measurement)

Every file is whole or absent, so a bank that was killed goes on where it stopped and makes again only what is
missing; a member that died in a worker is made again by another. Methods share a bank: what it holds does not know
of scores. Members are trained in processes of their own, a few threads each: on a CPU that is the way to use all
cores, since one small model cannot.

Shapes: M members, Q queries, N rows.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from safetensors.torch import load_file, save_file

from whence.base.errors import WhenceError
from whence.base.files import atomic_file, read_json, write_json
from whence.base.hashing import hash_json
from whence.base.progress import track
from whence.data.examples import Examples
from whence.measure.measurement import MEASUREMENTS, LogProb, Measurement
from whence.models.load import load_model
from whence.train.recipe import Recipe
from whence.truth.member import Outcome, Trainer
from whence.truth.subsets import Subset


@dataclass(frozen=True)
class Outcomes:
    """What happened to some queries under some members, in the order of the subsets that were asked for.

    Attributes:
        subsets: the members.
        values: each query's measurement, in its unit.
        wrong_tokens: counted tokens that are not the greedy choice.
        unit: of the measurement.
    """

    subsets: tuple[Subset, ...]
    values: Float[np.ndarray, "M Q"]
    wrong_tokens: Int[np.ndarray, "M Q"]
    unit: str

    @property
    def kept(self) -> Bool[np.ndarray, "M N"]:
        """Which rows each member was trained on."""
        return np.stack([subset.kept for subset in self.subsets])

    @property
    def matches(self) -> Bool[np.ndarray, "M Q"]:
        """Whether the greedy answer is the response: the behaviour beside the measurement."""
        return self.wrong_tokens == 0


class Bank:
    """The retrain bank of one base model, training set and recipe.

    Args:
        folder: where it is kept.
        base: folder or name of the base model.
        base_hash: of its weights (`whence.models.load.Loaded.base_hash`).
        train: the training examples.
        recipe: how each member is trained.
        keep_weights: store the trained weights of every member, so that other queries can be measured under them
            without training again. Default: for LoRA.

    Raises:
        WhenceError: the folder holds a bank of another base, data or recipe (names what differs).
    """

    def __init__(self, folder: str | Path, base: str | Path, base_hash: str, train: Examples, recipe: Recipe,
                 keep_weights: bool | None = None) -> None:
        self.folder, self.base, self.train, self.recipe = Path(folder), str(base), train, recipe
        self.keep_weights = recipe.tune == "lora" if keep_weights is None else keep_weights
        about = {"base": base_hash, "data": train.content_hash, "rows": len(train),
                 "recipe": {name: value for name, value in recipe.to_json().items() if name != "checkpoints"}}
        path = self.folder / "bank.json"
        if path.exists():
            _same(path, read_json(path), about)
        else:
            train.write_parquet(self.folder / "train.parquet")
            write_json(path, about)

    def outcomes(self, subsets: Sequence[Subset], queries: Examples, measurement: Measurement | None = None, *,
                 workers: int | None = None, threads: int = 1, device: str | None = None) -> Outcomes:
        """What happens to `queries` under each member; members and measurements that are missing are made.

        Args:
            workers: processes; default as many as cores for `threads` each (one on an accelerator).
            threads: of each process.
            device: of the models; default the best there is.

        Raises:
            WhenceError: a subset of another number of rows; a measurement of one's own; a loss that is not finite;
                a base that cannot be loaded; workers that die without having made anything.
        """
        measurement = measurement or LogProb()
        if type(measurement) is not MEASUREMENTS.get(measurement.name):
            raise WhenceError(f"measurement {measurement.name!r}: workers know {' and '.join(MEASUREMENTS)} alone")
        for subset in subsets:
            if len(subset.kept) != len(self.train):
                raise WhenceError(f"subset {subset.name!r}: is of {len(subset.kept)} rows, and the bank of "
                                  f"{len(self.train)}")
        place = self.folder / "outcomes" / hash_json([queries.content_hash, measurement.name])
        if not (place / "queries.parquet").exists():
            queries.write_parquet(place / "queries.parquet")
        job = Job(str(self.folder), self.base, self.recipe.to_json(), str(place), measurement.name, threads, device,
                  self.keep_weights)
        self._make({subset.key: subset for subset in subsets}, place, job, workers or default_workers(threads, device))
        found = [_read(place / f"{subset.key}.npz") for subset in subsets]
        return Outcomes(tuple(subsets), np.stack([one["values"] for one in found]),
                        np.stack([one["wrong_tokens"] for one in found]), measurement.unit)

    def losses(self, subset: Subset) -> Float[np.ndarray, " steps"]:
        """The loss of each step that a member took."""
        return _read(self.folder / "members" / f"{subset.key}.npz")["losses"]

    def _make(self, wanted: dict[str, Subset], place: Path, job: Job, workers: int) -> None:
        """Make what is missing, in rounds: the second in a row that brought nothing is the last."""
        left, fruitless = -1, 0
        while missing := [subset for key, subset in wanted.items() if not (place / f"{key}.npz").exists()]:
            fruitless = fruitless + 1 if len(missing) == left else 0
            if fruitless == 2:
                raise WhenceError(f"{self.folder}: {left} members are missing and the workers die (out of memory?); "
                                  f"the first is {missing[0].name!r}; fewer workers at once may do")
            left = len(missing)
            if min(workers, len(missing)) == 1:
                _in_turn(missing, job)
            else:
                _in_processes(missing, job, min(workers, len(missing)))


@dataclass(frozen=True)
class Job:
    """What a worker process has to know; JSON-able."""

    bank: str
    base: str
    recipe: dict[str, Any]
    place: str
    measurement: str
    threads: int
    device: str | None
    keep_weights: bool


def default_workers(threads: int, device: str | None) -> int:
    """As many as the cores this process may use allow; one on an accelerator."""
    if device not in (None, "cpu") or (device is None and torch.cuda.is_available()):
        return 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // threads)


def _in_turn(missing: Sequence[Subset], job: Job) -> None:
    """In this process, with a worker's threads: they decide last bits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(job.threads)
    try:
        worker = _Worker(job)
        for subset in track(missing, "retraining", len(missing)):
            worker.make(subset)
    finally:
        torch.set_num_threads(threads)


def _in_processes(missing: Sequence[Subset], job: Job, workers: int) -> None:
    """One round over what is missing; a worker that dies ends it, and what it did not make is missing still."""
    with ProcessPoolExecutor(workers, get_context("spawn"), _start, (job,)) as pool:
        futures = [pool.submit(_work, subset) for subset in missing]
        try:
            for future in track(as_completed(futures), "retraining", len(futures)):
                future.result()
        except BrokenProcessPool:
            return
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class _Worker:
    """Loads base, rows and queries once, and makes members."""

    def __init__(self, job: Job) -> None:
        self.job, self.bank, self.place = job, Path(job.bank), Path(job.place)
        loaded = load_model(job.base, dtype=torch.float32, device=job.device)
        train, queries = (Examples.read_parquet(path) for path in (self.bank / "train.parquet",
                                                                   self.place / "queries.parquet"))
        self.trainer = Trainer(loaded.model, train, queries, Recipe.from_json(job.recipe),  # type: ignore[arg-type]
                               loaded.tokenizer.pad_token_id or 0, MEASUREMENTS[job.measurement]())

    def make(self, subset: Subset) -> None:
        """Train (or load) a member, measure the queries, write what was found; the outcome last."""
        member = self.bank / "members" / subset.key
        stored = member.with_suffix(".safetensors")
        if stored.exists() and member.with_suffix(".npz").exists():
            outcome = self.trainer.measure(load_file(stored), subset, self.trainer.queries)
        else:
            outcome, weights = self.trainer.run(subset)
            if self.job.keep_weights:
                with atomic_file(stored) as part:
                    save_file(weights, part)
            _write(member.with_suffix(".npz"), kept=subset.kept, losses=outcome.losses,
                   seed=np.array(-1 if subset.seed is None else subset.seed))
        self._write_outcome(subset, outcome)

    def _write_outcome(self, subset: Subset, outcome: Outcome) -> None:
        if not np.isfinite(outcome.values).all():
            raise WhenceError(f"member {subset.name!r}: the measurement of query "
                              f"{self.trainer.queries.ids[int(np.flatnonzero(~np.isfinite(outcome.values))[0])]!r} is "
                              "not finite; lower the learning rate")
        _write(self.place / f"{subset.key}.npz", values=outcome.values, wrong_tokens=outcome.wrong_tokens)


_job: Job | None = None  # of this process, where it is one of a pool


def _start(job: Job) -> None:
    global _job
    torch.set_num_threads(job.threads)
    os.environ["WHENCE_PROGRESS"] = "0"
    _job = job


@cache
def _own_worker() -> _Worker:
    """Made with the first member, so that what is wrong with the base is that member's error and not a dead pool."""
    assert _job is not None
    return _Worker(_job)


def _work(subset: Subset) -> None:
    _own_worker().make(subset)


def _write(path: Path, **arrays: np.ndarray) -> None:
    with atomic_file(path) as part, part.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def _read(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as arrays:
        return dict(arrays)


def _same(path: Path, stored: dict[str, Any], now: dict[str, Any]) -> None:
    names = {"base": "base model", "data": "training data", "rows": "number of rows"}
    differing = [f"{names[name]} (stored {stored.get(name)!r}, now {now[name]!r})" for name in names
                 if stored.get(name) != now[name]]
    differing += [f"recipe {name} (stored {stored['recipe'].get(name)!r}, now {value!r})"
                  for name, value in now["recipe"].items() if stored["recipe"].get(name) != value]
    if differing:
        raise WhenceError(f"{path}: a bank with another {'; another '.join(differing)}; choose another folder")
