"""Banks: a member is what training it alone gives, in any process, after any kill; nothing is made twice."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.run.fixtures import QUERIES, RECIPES, base_folder, full_folder, lora_folder
from whence.base.errors import WhenceError
from whence.data.examples import Examples
from whence.measure.measurement import LogOdds
from whence.models.load import load_model
from whence.run.run import Run
from whence.train.plan import plan_steps
from whence.train.recipe import Recipe
from whence.truth import bank as bank_file
from whence.truth.bank import Bank, default_workers
from whence.truth.member import Trainer
from whence.truth.subsets import Subset, all_rows, leave_out, random_subsets

__all__ = ["base_folder", "full_folder", "lora_folder"]
HOW: dict[str, Any] = {"epochs": 2, "batch_size": 8, "learning_rate": 2e-2, "checkpoints": 1}


@pytest.fixture
def made(base_folder: Path, lora_folder: Path, tmp_path: Path) -> tuple[Bank, Examples]:
    loaded, run = load_model(base_folder, dtype=torch.float32), Run.load(lora_folder)
    recipe = Recipe(tune="lora", **{**HOW, **RECIPES["lora"]})
    return Bank(tmp_path / "bank", base_folder, loaded.base_hash, run.train, recipe), run.encode(QUERIES)


@pytest.mark.parametrize("tune", ["lora", "full"])
def test_the_member_of_all_rows_is_the_run_itself(tune: str, base_folder: Path, lora_folder: Path,
                                                  full_folder: Path) -> None:
    """Weights to the bit, after other members were trained from the same base, which is left as it was."""
    folder = {"lora": lora_folder, "full": full_folder}[tune]
    run = Run.load(folder)
    recipe = Recipe.from_json(run.record["config"]["recipe"])
    loaded = load_model(base_folder, dtype=torch.float32)
    before = {name: tensor.clone() for name, tensor in loaded.model.state_dict().items()}
    trainer = Trainer(loaded.model, run.train, run.encode(QUERIES), recipe, run.subject.pad_id)  # type: ignore[arg-type]
    other, _ = trainer.run(random_subsets(24, 1)[0])
    _, weights = trainer.run(all_rows(24)[0])
    checkpoint = load_file(sorted((folder / "checkpoints").glob("step-*"))[-1] / "weights.safetensors")
    assert set(weights) == set(checkpoint)
    for name, value in checkpoint.items():
        assert torch.equal(weights[name], value), name
    again, _ = trainer.run(random_subsets(24, 1)[0])
    np.testing.assert_array_equal(again.values, other.values)
    np.testing.assert_array_equal(again.losses, other.losses)
    after = trainer.model.state_dict()
    assert set(after) == set(before) and all(torch.equal(after[name], value) for name, value in before.items())


def test_rows_left_out_are_left_out_of_their_batches(base_folder: Path, lora_folder: Path) -> None:
    """The member is what a loop over the same steps gives whose rows were taken out beforehand."""
    run, loaded = Run.load(lora_folder), load_model(base_folder, dtype=torch.float32)
    recipe = Recipe(tune="full", **HOW)
    trainer = Trainer(loaded.model, run.train, run.encode(QUERIES), recipe, run.subject.pad_id)  # type: ignore[arg-type]
    (subset,) = leave_out(24, {"half": range(12)})
    outcome, _ = trainer.run(subset)
    poisoned = [ids.copy() for ids in run.train.tokens]
    for row in range(12):
        poisoned[row][:] = 1  # what is left out may be anything
    other = Examples(**{**{name: getattr(run.train, name) for name in ("ids", "groups", "prompts", "responses",
                                                                        "is_response", "truncated")},
                        "tokens": tuple(poisoned)})
    same, _ = Trainer(load_model(base_folder, dtype=torch.float32).model, other, run.encode(QUERIES),  # type: ignore[arg-type]
                      recipe, run.subject.pad_id).run(subset)
    np.testing.assert_array_equal(outcome.values, same.values)
    everything, _ = trainer.run(all_rows(24)[0])
    assert np.abs(everything.values - outcome.values).max() > 0.1
    only_first = Subset("one", np.arange(24) == 0)
    assert len(trainer.run(only_first)[0].losses) == 2  # one batch of each epoch has something left


def test_processes_give_the_bits_of_one(made: tuple[Bank, Examples], tmp_path: Path) -> None:
    bank, queries = made
    subsets = [*all_rows(24), *random_subsets(24, 3), *all_rows(24, [5])]
    before = torch.get_num_threads()
    alone = bank.outcomes(subsets, queries, workers=1)
    other = Bank(tmp_path / "other", bank.base, load_model(bank.base, dtype=torch.float32).base_hash, bank.train,
                 bank.recipe)
    together = other.outcomes(subsets, queries, workers=2, threads=1)
    assert torch.get_num_threads() == before
    np.testing.assert_array_equal(alone.values, together.values)
    np.testing.assert_array_equal(alone.wrong_tokens, together.wrong_tokens)
    assert together.kept.shape == (5, 24) and together.unit == "nats" and together.matches.dtype == bool
    assert np.abs(together.values[0] - together.values[4]).max() > 1e-3  # another seed is another member
    assert not list(other.folder.rglob("*.part"))


def test_nothing_is_made_twice_and_new_queries_train_nothing(made: tuple[Bank, Examples],
                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    bank, queries = made
    subsets, trained = random_subsets(24, 2), []
    real = Trainer.run
    monkeypatch.setattr(Trainer, "run", lambda self, subset: (trained.append(subset.name), real(self, subset))[1])
    first = bank.outcomes(subsets, queries, workers=1)
    assert trained == ["random 0", "random 1"]
    bank.outcomes(random_subsets(24, 3), queries, workers=1)
    assert trained[2:] == ["random 2"]
    fewer = bank.outcomes(subsets, queries.select([4, 1]), workers=1)
    odds = bank.outcomes(subsets, queries, LogOdds(), workers=1)
    assert len(trained) == 3
    np.testing.assert_allclose(fewer.values, first.values[:, [4, 1]], rtol=1e-5)
    assert np.abs(odds.values - first.values).max() > 1e-3
    steps = plan_steps(24, bank.recipe)
    for subset in subsets:
        assert len(bank.losses(subset)) == sum(subset.kept[step.rows].any() for step in steps)


def test_members_that_die_are_made_again_alone(made: tuple[Bank, Examples], monkeypatch: pytest.MonkeyPatch) -> None:
    bank, queries = made
    subsets = random_subsets(24, 4)
    whole = bank.outcomes(subsets, queries, workers=2)
    for subset in subsets[2:]:
        for name in ("outcomes", "members"):
            for path in (bank.folder / name).rglob(f"{subset.key}.*"):
                path.unlink()
    kept = {path: path.stat().st_mtime_ns for path in bank.folder.rglob("*.npz")}
    marker = bank.folder / "killed"
    monkeypatch.setattr(bank_file, "_work", Dies(str(marker)))
    again = bank.outcomes(subsets, queries, workers=2)
    assert marker.exists()
    np.testing.assert_array_equal(again.values, whole.values)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in kept.items())


class Dies:
    """Work that kills its process the first time."""

    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __call__(self, subset: Subset) -> None:
        if not Path(self.marker).exists():
            Path(self.marker).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        bank_file._own_worker().make(subset)


class AlwaysDies:
    """Work that never gets done."""

    def __call__(self, subset: Subset) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def test_what_is_wrong_with_the_base_is_said(made: tuple[Bank, Examples], tmp_path: Path) -> None:
    bank, queries = made
    gone = Bank(bank.folder, tmp_path / "gone", load_model(bank.base).base_hash, bank.train, bank.recipe)
    with pytest.raises(WhenceError, match="gone"):
        gone.outcomes(random_subsets(24, 2), queries, workers=2)
    with pytest.raises(WhenceError, match="measurement 'mine': workers know log_prob and log_odds alone"):
        bank.outcomes(random_subsets(24, 2), queries, type("Mine", (LogOdds,), {"name": "mine"})())


def test_workers_that_only_die_are_an_error(made: tuple[Bank, Examples], monkeypatch: pytest.MonkeyPatch) -> None:
    bank, queries = made
    monkeypatch.setattr(bank_file, "_work", AlwaysDies())
    with pytest.raises(WhenceError, match=r"2 members are missing and the workers die.*the first is 'random 0'"):
        bank.outcomes(random_subsets(24, 2), queries, workers=2)


def test_another_bank_in_the_folder_is_refused(made: tuple[Bank, Examples]) -> None:
    bank, queries = made
    with pytest.raises(WhenceError, match=r"another recipe learning_rate \(stored 0.02, now 0.5\)"):
        Bank(bank.folder, bank.base, load_model(bank.base).base_hash, bank.train,
             Recipe(tune="lora", **{**HOW, **RECIPES["lora"], "learning_rate": 0.5}))
    with pytest.raises(WhenceError, match=r"another training data.*another number of rows \(stored 24, now 3\)"):
        Bank(bank.folder, bank.base, load_model(bank.base).base_hash, bank.train.select([0, 1, 2]), bank.recipe)
    with pytest.raises(WhenceError, match="is of 23 rows, and the bank of 24"):
        bank.outcomes(random_subsets(23, 1), queries)
    again = Bank(bank.folder, bank.base, load_model(bank.base).base_hash, bank.train, bank.recipe)
    assert again.folder == bank.folder


def test_cores_are_shared_among_workers() -> None:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    assert [default_workers(*given) for given in ((1, "cpu"), (10_000, "cpu"), (1, "cuda"))] == [cores, 1, 1]


def test_the_bank_of_a_run_trains_as_the_run_was_trained(lora_folder: Path, tmp_path: Path) -> None:
    run = Run.load(shutil.copytree(lora_folder, tmp_path / "run"))
    queries = run.encode(QUERIES)
    found = run.bank().outcomes(all_rows(24), queries, workers=1)
    np.testing.assert_array_equal(found.values[0], run.score(queries, "bm25").measured["values"])
    assert (run.folder / "truth" / "bank.json").exists()
    with pytest.raises(WhenceError, match="needs a run that whence trained"):
        Run(run.model, run.tokenizer, run.train).bank()
