"""A fine-tune of a base model on a task, under an encoding: a run directory, and how well the task was learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from whence.base.files import read_json
from whence.data.examples import Examples
from whence.models.load import load_model
from whence.run.load import stored_run
from whence.study.cell import Cell, Row, kind
from whence.study.cost import Work
from whence.study.encoding import Encoding
from whence.study.kinds.base import parameters
from whence.study.rows import task_rows
from whence.sweep.sweep import sweep
from whence.tasks.task import Task
from whence.train.loop import train
from whence.train.recipe import Recipe
from whence.train.record import BaseInfo

ROW_TOKENS = 40  # of a row that is not filled up, about


def rows_and_tokens(options: Mapping[str, Any]) -> tuple[int, int]:
    """Training rows of a task, and tokens of a row, about: for an estimate."""
    encoding = Encoding.of(options["encoding"])
    rows = len(task_rows(options["task"], options["seed"]).train)
    return rows, encoding.length if encoding.pads == "counted" else min(ROW_TOKENS, encoding.length)


def work(cell: Cell) -> Work:
    """Its steps."""
    options, base = cell.options, cell.needs[0].options
    rows, tokens = rows_and_tokens(options)
    recipe = Recipe.from_json(options["recipe"])
    steps = recipe.max_steps or (recipe.epochs or 1) * -(-rows // recipe.batch_size)
    return Work(steps, base["layers"], recipe.batch_size * tokens, parameters(base), 1.0)


@kind("fine-tune", work)
def fine_tune(options: Mapping[str, Any], folder: Path, needs: Sequence[Path]) -> list[Row]:
    """Train on the task's rows; then the loss and the greedy answers of its queries."""
    base, seed = needs[0] / "model", options["seed"]
    task, encoding = task_rows(options["task"], seed), Encoding.of(options["encoding"])
    recipe = Recipe.from_json({**options["recipe"], "seed": seed})
    loaded = load_model(base, dtype=torch.float32, device="cpu")
    assert isinstance(loaded.model, PreTrainedModel)
    examples = encoding.examples(task.train, loaded.tokenizer)
    about: dict[str, Any] = {"source": task.name, "columns": {}, "split": None, "template": None,
                             "max_length": encoding.length, "eos": encoding.eos, "chat": False}
    info = BaseInfo(str(base.resolve()), loaded.base_hash, loaded.tokenizer, about)
    trained = train(loaded.model, examples, recipe, folder / "run", base_info=info)
    pad = loaded.tokenizer.pad_token_id or 0
    rows: list[Row] = []
    for name, asked in (("query", task.queries), ("train", task.train)):
        answers = encoding.examples(asked, loaded.tokenizer, answer_only=True)
        measured = sweep(trained.model, answers, pad_id=pad)
        tokens = float(answers.response_lengths.sum())
        rows += [{"metric": f"{name} loss", "value": -float(measured.values.sum()) / tokens},
                 {"metric": f"{name} exact match", "value": float(measured.matches.mean())}]
    final = trained.record["final"]
    rows += [{"metric": "objective at last", "value": float(final["last_epoch_loss_per_token"])},
             {"metric": "gradient norm at last", "value": float(final["last_batch_grad_norm"])},
             {"metric": "rows", "value": float(len(examples))},
             {"metric": "trained weights", "value": float(trained.record["counts"]["trained_weights"])},
             {"metric": "share of filling", "value": float(np.mean([
                 1 - len(short) / len(long) for short, long in zip(
                     Encoding(length=encoding.length, eos=encoding.eos).examples(task.train, loaded.tokenizer).tokens,
                     examples.tokens, strict=True)]))}]
    return rows


@dataclass(frozen=True)
class FineTuned:
    """A fine-tune, loaded again with its task.

    Attributes:
        model, tokenizer: as `whence.run.load` gives them.
        base: folder of the base model.
        task: its rows.
        train: the examples it was trained on.
    """

    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    base: Path
    task: Task
    train: Examples
    recipe: Recipe
    base_hash: str


def load_fine_tune(folder: Path, task: Mapping[str, Any], seed: int) -> FineTuned:
    """What a `fine-tune` cell left in `folder`; its base stands beside it, wherever the study's folder is now.

    Raises:
        WhenceError: contents that are not those it was made with.
    """
    base = folder.parent / read_json(folder / "cell.json")["needs"][0] / "model"
    stored = stored_run(folder / "run", base, device="cpu")
    record = stored["record"]
    return FineTuned(stored["model"], stored["tokenizer"], base, task_rows(task, seed), stored["train"],
                     Recipe.from_json(record["config"]["recipe"]), record["hashes"]["base"])
