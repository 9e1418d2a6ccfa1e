"""`train`: run a recipe's plan into a run directory, from wherever a run before it got to."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from whence.base.errors import WhenceError
from whence.base.files import write_json
from whence.base.progress import track
from whence.data.examples import Examples
from whence.models.adapter import save_adapter
from whence.models.build import save
from whence.models.identity import adapter_hash, model_hash, refuse_nonfinite
from whence.train.adapter import prepare, trainable
from whence.train.checkpoint import (
    checkpoint_folders,
    checkpoint_step,
    drop_leftovers,
    drop_resume_checkpoints,
    load_checkpoint,
    load_optimizer,
    newest_checkpoint,
    save_checkpoint,
)
from whence.train.log import LOG_NAME, append_log, cut_log, read_log
from whence.train.plan import kept_steps, plan_steps
from whence.train.recipe import Recipe
from whence.train.record import (
    RECORD_NAME,
    BaseInfo,
    check_same,
    machine,
    new_record,
    peak_memory,
    read_record,
)
from whence.train.training import Training, training_mode


@dataclass(frozen=True)
class Trained:
    """A finished fine-tune.

    Attributes:
        model: the trained model, in eval mode.
        out: the run directory.
        record: what its `run.json` holds.
        resumed_from: the step this call went on from; None if it began at the beginning.
        already_trained: whether the run was already whole, so that nothing was done.
    """

    model: PreTrainedModel | PeftModel
    out: Path
    record: dict[str, Any]
    resumed_from: int | None
    already_trained: bool


def train(model: PreTrainedModel | PeftModel, examples: Examples, recipe: Recipe, out: str | Path, *,
          base_info: BaseInfo, save_every: int | None = None, resume: bool = True) -> Trained:
    """Fine-tune `model` on `examples` and leave a whole run in `out`.

    Killed at any instant and called again, it goes on from the last checkpoint and ends with the same bits,
    in weights and log, as if it had never stopped (on the same machine, with as many threads). A finished run
    is left alone. `model` is changed in place.

    Args:
        save_every: steps between the checkpoints made only to resume from; None is once an epoch. It does not
            change any number.
        resume: go on with what `out` holds; False refuses a folder that holds a run.

    Writes `run.json`, `train.parquet`, `train_log.jsonl`, `checkpoints/` and, at the end, `adapter/` (for
    PEFT, with the base's hash in `whence.json`) or `model/`.

    Raises:
        WhenceError: examples the model cannot take; a folder with another run (or, without `resume`, any); a
            loss that is not finite.
    """
    out = Path(out)
    model = prepare(model, recipe)
    training = Training(model, examples, recipe, base_info.tokenizer.pad_token_id or 0)
    plan = plan_steps(len(examples), recipe)
    if save_every is None:
        save_every = math.ceil(len(examples) / recipe.batch_size)
    elif save_every < 1:
        raise WhenceError(f"save_every is {save_every}; expected a whole number of at least 1")
    record = new_record(model, examples, recipe, base_info, len(plan))
    stored = _stored(out, resume)
    if stored is not None:
        check_same(stored, record, out)
        record = stored
        if stored["status"] == "trained":
            examples.write_parquet(out / "train.parquet")  # ids and groups may have been corrected
            load_checkpoint(model, checkpoint_folders(out)[-1])
            return Trained(model.eval(), out, stored, None, True)

    done = _go_back_to_checkpoint(training, out)
    if stored is not None:
        record["resumed"].append({"step": done, **machine(model.device)})
    write_json(out / RECORD_NAME, record)
    examples.write_parquet(out / "train.parquet")

    kept = kept_steps(len(plan), recipe)
    began = time.perf_counter()
    with training_mode(model):
        for step in track(plan[done:], "training", total=len(plan) - done):
            line = training.advance(step)
            append_log(out / LOG_NAME, line)
            if step.step in kept or step.step % save_every == 0:
                where = f"step {step.step}, at learning rate {step.learning_rate:g}"
                refuse_nonfinite(trainable(model).items(), where)
                name = f"{'step' if step.step in kept else 'resume'}-{step.step:06d}"
                state = {key: value for key, value in line.items() if key != "rows"}
                save_checkpoint(out / "checkpoints" / name, model, training.optimizer, state)
                drop_resume_checkpoints(out, before=step.step)
    seconds = time.perf_counter() - began

    drop_resume_checkpoints(out, before=len(plan) + 1)
    _save_model(model, out, base_info.tokenizer)
    weights = adapter_hash(model) if isinstance(model, PeftModel) else model_hash(model)
    record |= {
        "status": "trained",
        "hashes": {**record["hashes"], "weights": weights},
        "final": _final(read_log(out), recipe),
        "timings": {"training_seconds": seconds, "steps_timed": len(plan) - done},
        "peak_memory": peak_memory(training.device),
    }
    write_json(out / RECORD_NAME, record)
    return Trained(model, out, record, done or None, False)


def _stored(out: Path, resume: bool) -> dict[str, Any] | None:
    """The record of the run in `out`, or None if there is none."""
    if not (out / RECORD_NAME).exists():
        if newest_checkpoint(out) is not None:
            raise WhenceError(f"{out}: has checkpoints but no {RECORD_NAME}, so whose they are is not known; "
                              "train into another folder, or remove this one")
        return None
    if not resume:
        raise WhenceError(f"{out}: holds a run; expected a folder without one (or let it resume)")
    return read_record(out)


def _go_back_to_checkpoint(training: Training, out: Path) -> int:
    """Bring the state and the log to the newest checkpoint, or to the beginning; gives its step."""
    drop_leftovers(out)
    newest = newest_checkpoint(out)
    done = checkpoint_step(newest) if newest is not None else 0
    if newest is not None:
        load_checkpoint(training.model, newest)
        load_optimizer(training.optimizer, training.model, newest)
    cut_log(out / LOG_NAME, done)
    return done


def _save_model(model: PreTrainedModel | PeftModel, out: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    if isinstance(model, PeftModel):
        save_adapter(model, tokenizer, out / "adapter")
    else:
        save(model, tokenizer, out / "model")


def _final(log: list[dict[str, Any]], recipe: Recipe) -> dict[str, Any]:
    """Where the run ended: its last batch, the last epoch's mean loss a token, and how often it clipped."""
    last = [line for line in log if line["epoch"] == log[-1]["epoch"]]
    # A batch's loss times what it was divided by is its sum; sums of either reduction compare.
    totals = [line["loss"] * (line["tokens"] if recipe.reduction == "token" else len(line["rows"]))
              for line in last]
    clipped = sum(recipe.clip_norm is not None and line["grad_norm"] > recipe.clip_norm for line in log)
    return {
        "last_batch_loss": log[-1]["loss"],
        "last_batch_grad_norm": log[-1]["grad_norm"],
        "last_epoch_loss_per_token": sum(totals) / sum(line["tokens"] for line in last),
        "clipped_steps": clipped,
    }
