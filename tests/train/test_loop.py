"""Whole runs: what is left behind, the same bits again, and a run that was cut off."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.tiny import examples, llama
from tests.train.runs import contents, recipe, run
from whence.base.errors import WhenceError
from whence.data.examples import Examples
from whence.models.identity import adapter_hash, model_hash
from whence.models.load import load_model
from whence.train import loop
from whence.train.adapter import prepare, trainable
from whence.train.checkpoint import checkpoint_folders, load_checkpoint, read_state
from whence.train.log import read_log
from whence.train.plan import plan_steps
from whence.train.record import read_record

STEPS = 16  # 4 epochs of 11 rows in threes


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA run that nothing interrupted."""
    out = tmp_path_factory.mktemp("whole")
    result = run(out, recipe())
    assert not result.model.training and result.resumed_from is None and not result.already_trained
    return out


def test_the_loss_falls(tmp_path: Path) -> None:
    result = run(tmp_path, recipe(tune="full", rank=8, dropout=0.0, epochs=12))
    log = read_log(tmp_path)
    assert result.record["final"]["last_epoch_loss_per_token"] < 0.5 * log[0]["loss"]


def test_the_order_and_the_rates_are_on_record(whole: Path) -> None:
    log, plan, data = read_log(whole), plan_steps(11, recipe()), examples(11)
    assert len(log) == STEPS
    for line, step in zip(log, plan, strict=True):
        assert (line["step"], line["epoch"], line["rows"], line["lr"]) == (
            step.step, step.epoch, step.rows.tolist(), step.learning_rate)
        assert line["tokens"] == sum(data.response_lengths[step.rows])


def test_the_record_says_what_was_done(whole: Path) -> None:
    record, data, log = read_record(whole), examples(11), read_log(whole)
    assert record["status"] == "trained"
    assert record["config"]["recipe"] == recipe().to_json()
    assert (record["config"]["model"], record["config"]["data"]) == ("the base", {"source": "made up"})
    assert record["hashes"]["base"] == model_hash(llama(dtype=torch.float32))
    assert record["hashes"]["data"] == data.content_hash
    assert "mean over the response tokens of the batch" in record["objective"]
    assert record["counts"]["examples"] == 11 and record["counts"]["truncated"] == 0
    assert record["counts"]["steps"] == STEPS
    assert record["counts"]["trained_weights"] < record["counts"]["weights"]
    assert record["machine"]["threads"] == torch.get_num_threads()
    assert record["machine"]["versions"]["torch"] == torch.__version__
    assert record["peak_memory"]["resident_bytes"] > 10**7
    last = log[-4:]
    per_token = sum(line["loss"] * line["tokens"] for line in last) / sum(line["tokens"] for line in last)
    assert record["final"]["last_epoch_loss_per_token"] == pytest.approx(per_token)
    assert record["final"]["last_batch_grad_norm"] == log[-1]["grad_norm"]
    assert record["final"]["clipped_steps"] == sum(line["grad_norm"] > 1 for line in log)
    stored = Examples.read_parquet(whole / "train.parquet")
    assert stored.ids == data.ids and stored.content_hash == data.content_hash


def test_the_example_reduction_is_reported_in_nats_a_token_too(tmp_path: Path) -> None:
    record = run(tmp_path, recipe(reduction="example", epochs=1)).record
    log = read_log(tmp_path)
    total = sum(line["loss"] * len(line["rows"]) for line in log)
    tokens = examples(11).response_lengths.sum()
    assert record["final"]["last_epoch_loss_per_token"] == pytest.approx(total / tokens)
    assert "mean over the examples of the batch of the sum" in record["objective"]


def test_the_adapter_loads_with_peft_and_by_its_hash(whole: Path) -> None:
    base, hashes = llama(dtype=torch.float32), read_record(whole)["hashes"]
    model = PeftModel.from_pretrained(base, whole / "adapter").eval()
    last = load_checkpoint(prepare(llama(dtype=torch.float32), recipe()), checkpoint_folders(whole)[-1])
    last.eval()
    tokens = torch.arange(9)[None]
    with torch.no_grad():
        assert torch.equal(model(input_ids=tokens).logits, last(input_ids=tokens).logits)
        with model.disable_adapter():
            assert not torch.equal(last(input_ids=tokens).logits, model(input_ids=tokens).logits)
    assert json.loads((whole / "adapter" / "whence.json").read_text())["base_hash"] == hashes["base"]
    assert adapter_hash(model) == hashes["weights"]


def test_a_full_fine_tune_loads_as_a_model(tmp_path: Path) -> None:
    result = run(tmp_path, recipe(tune="full", rank=8, dropout=0.0, epochs=1))
    loaded = load_model(tmp_path / "model", device="cpu")
    assert loaded.base_hash == result.record["hashes"]["weights"] == model_hash(result.model)
    assert loaded.base_hash != result.record["hashes"]["base"]
    assert loaded.model.config.use_cache is True
    assert AutoTokenizer.from_pretrained(tmp_path / "model").eos_token == "w1"
    AutoModelForCausalLM.from_pretrained(tmp_path / "model")


def test_checkpoints_hold_weights_moments_and_rates(whole: Path) -> None:
    folders = checkpoint_folders(whole)
    assert [folder.name for folder in folders] == ["step-000008", "step-000016"]
    assert sorted(p.name for p in (whole / "checkpoints").iterdir()) == [f.name for f in folders]
    log = read_log(whole)
    for folder, line in zip(folders, (log[7], log[15]), strict=True):
        assert read_state(folder) == {name: line[name] for name in line if name != "rows"}
    model = prepare(llama(dtype=torch.float32), recipe())
    at8 = {name: w.clone() for name, w in trainable(load_checkpoint(model, folders[0])).items()}
    at16 = trainable(load_checkpoint(model, folders[1]))
    assert all(not torch.equal(at8[name], at16[name]) for name in at8)


def test_a_checkpoint_of_another_model_is_refused(whole: Path, tmp_path: Path) -> None:
    folder = checkpoint_folders(whole)[0]
    with pytest.raises(WhenceError, match=r"which the model lacks .28 of 28.*its adapter attached"):
        load_checkpoint(llama(dtype=torch.float32), folder)
    with pytest.raises(WhenceError, match=r"has shape .3, 24., the model's has .5, 24."):
        load_checkpoint(prepare(llama(dtype=torch.float32), recipe(rank=5)), folder)
    with pytest.raises(WhenceError, match="no such file; expected a checkpoint folder"):
        load_checkpoint(llama(dtype=torch.float32), tmp_path)


def test_the_same_run_again_has_the_same_bits(whole: Path, tmp_path: Path) -> None:
    run(tmp_path, recipe(), save_every=3)
    assert contents(tmp_path) == contents(whole)


def test_another_seed_is_another_run(whole: Path, tmp_path: Path) -> None:
    run(tmp_path, recipe(seed=1))
    assert contents(tmp_path)["train_log.jsonl"] != contents(whole)["train_log.jsonl"]


def test_weights_that_are_not_finite_are_not_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    advance = loop.Training.advance

    def overflowing(training, step):
        line = advance(training, step)
        if step.step == 4:
            trainable(training.model)["model.norm.weight"].data[3] = float("inf")
        return line

    monkeypatch.setattr(loop.Training, "advance", overflowing)
    with pytest.raises(WhenceError, match=r"step 4, at learning rate .*model.norm.weight .1 of 16 values"):
        run(tmp_path, recipe(tune="full", rank=8, dropout=0.0, epochs=1))
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["step-000002"]
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(("tune", "stop"),
                         [("lora", 1), ("lora", 3), ("lora", 10), ("lora", 16), ("full", 9)])
def test_a_run_cut_off_before_a_step_ends_with_the_same_bits(
        tune: str, stop: int, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    how = recipe() if tune == "lora" else recipe(tune="full", rank=8, dropout=0.0, weight_decay=0.1)
    if tune == "full":
        run(whole := tmp_path / "whole", how)
    out = tmp_path / "cut"
    advance = loop.Training.advance

    def stopping(training, step):
        if step.step == stop:
            raise KeyboardInterrupt
        return advance(training, step)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop.Training, "advance", stopping)
        run(out, how, save_every=3)
    assert read_record(out)["status"] == "training"
    with (out / "train_log.jsonl").open("a") as log:
        log.write('{"step": 9')  # killed within a line
    (out / "checkpoints").mkdir(exist_ok=True)
    (out / "checkpoints" / ".step-000008.1.part").mkdir()  # and within a checkpoint

    result = run(out, how, save_every=3)
    expected = {1: 0, 3: 0, 9: 8, 10: 9, 16: 15}[stop]
    assert result.resumed_from == (expected or None)
    assert [entry["step"] for entry in result.record["resumed"]] == [expected]
    assert result.record["timings"]["steps_timed"] == STEPS - expected
    assert contents(out) == contents(whole)
    assert result.record["hashes"] == read_record(whole)["hashes"]


def test_a_run_killed_for_good_ends_with_the_same_bits(tmp_path: Path) -> None:
    """SIGKILL from outside, in the middle of training; then to the end in this process."""
    how, out, root = recipe(epochs=60), tmp_path / "killed", Path(__file__).parents[2]
    code = ("import sys, torch; from pathlib import Path; from tests.train.runs import recipe, run\n"
            f"torch.set_num_threads({torch.get_num_threads()})\n"
            "run(Path(sys.argv[1]), recipe(epochs=60), save_every=7)")
    process = subprocess.Popen([sys.executable, "-c", code, str(out)], cwd=root,
                               env={**os.environ, "WHENCE_PROGRESS": "0"})
    log = out / "train_log.jsonl"
    while process.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") >= 50):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    met = log.read_bytes().count(b"\n")
    assert read_record(out)["status"] == "training" and not (out / "adapter").exists()
    result = run(out, how, save_every=7)
    assert 49 <= result.resumed_from <= met < 4 * 60
    run(tmp_path / "whole", how)
    assert contents(out) == contents(tmp_path / "whole")


def test_a_finished_run_is_left_alone(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, stamp = contents(whole), (whole / "run.json").stat().st_mtime_ns
    monkeypatch.setattr(loop.Training, "advance", lambda *_: pytest.fail("a step was taken"))
    result = run(whole, recipe())
    assert result.already_trained and not result.model.training
    assert adapter_hash(result.model) == result.record["hashes"]["weights"]
    assert contents(whole) == before and (whole / "run.json").stat().st_mtime_ns == stamp


def test_another_recipe_data_or_base_is_refused(whole: Path) -> None:
    before = contents(whole)
    both = r"another recipe rank .stored 3, now 4.; another recipe seed .stored 0, now 5."
    with pytest.raises(WhenceError, match=both):
        run(whole, recipe(rank=4, seed=5))
    with pytest.raises(WhenceError, match=r"another data hash"):
        run(whole, recipe(), data=examples(11, seed=9))
    with pytest.raises(WhenceError, match=r"another base hash"):
        run(whole, recipe(), base_seed=4)
    with pytest.raises(WhenceError, match=r"holds a run; expected a folder without one"):
        run(whole, recipe(), resume=False)
    assert contents(whole) == before


def test_folders_that_are_not_a_run_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a" / "checkpoints" / "step-000004").mkdir(parents=True)
    with pytest.raises(WhenceError, match=r"has checkpoints but no run.json"):
        run(tmp_path / "a", recipe())
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "run.json").write_text("[1]")
    with pytest.raises(WhenceError, match=r"not the record of a training run"):
        run(tmp_path / "b", recipe())
    with pytest.raises(WhenceError, match=r"save_every is 0"):
        run(tmp_path / "c", recipe(), save_every=0)


def test_a_loss_that_is_not_finite_ends_the_run_and_stores_nothing_of_it(tmp_path: Path) -> None:
    how = recipe(tune="full", rank=8, dropout=0.0, learning_rate=1e36, warmup_ratio=0.0)
    with pytest.raises(WhenceError, match=r"step 2: the loss is (nan|inf).*rows with ids 'row\d+'"):
        run(tmp_path, how, save_every=1)
    assert read_record(tmp_path)["status"] == "training"
    assert [line["step"] for line in read_log(tmp_path)] == [1]
    assert np.isfinite(read_log(tmp_path)[0]["loss"])
    assert sorted(p.name for p in (tmp_path / "checkpoints").iterdir()) == ["resume-000001"]
    assert not (tmp_path / "model").exists()


def test_a_log_shorter_than_its_checkpoint_is_refused(tmp_path: Path,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "_save_model", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        run(tmp_path, recipe(epochs=1))
    (tmp_path / "train_log.jsonl").write_text("{}\n")
    with pytest.raises(WhenceError, match=r"has 1 lines, but there is a checkpoint of step 4"):
        run(tmp_path, recipe(epochs=1))


def test_corrected_groups_reach_a_finished_run(tmp_path: Path) -> None:
    """Labels change no weight, so nothing is trained again; the stored rows get them all the same."""
    data = examples(11)
    weights = run(tmp_path, recipe(epochs=1), data).record["hashes"]["weights"]
    again = run(tmp_path, recipe(epochs=1), replace(data, groups=("corrected",) * 11))
    assert again.already_trained and again.record["hashes"]["weights"] == weights
    assert set(Examples.read_parquet(tmp_path / "train.parquet").groups) == {"corrected"}
