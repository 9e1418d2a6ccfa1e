"""A tiny model, its tokenizer and one call that trains it into a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from tests.tiny import VOCAB, examples, llama
from whence.data.examples import Examples
from whence.models.identity import model_hash
from whence.train.loop import Trained, train
from whence.train.recipe import Recipe
from whence.train.record import BaseInfo


def tokenizer() -> PreTrainedTokenizerFast:
    words = {f"w{i}": i for i in range(VOCAB)}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w0")),
                                   eos_token="w1", pad_token="w1")


def recipe(**changes: Any) -> Recipe:
    """Small, with dropout, so that a random state that is off would show."""
    return Recipe(**{"rank": 3, "dropout": 0.1, "epochs": 4, "batch_size": 3, "learning_rate": 1e-2,
                     "warmup_ratio": 0.1, "checkpoints": 2, **changes})


def run(out: Path, how: Recipe, data: Examples | None = None, base_seed: int = 0, **options: Any) -> Trained:
    model = llama(base_seed, torch.float32)
    info = BaseInfo("the base", model_hash(model), tokenizer(), {"source": "made up"})
    return train(model, examples(11) if data is None else data, how, out, base_info=info, **options)


def contents(out: Path) -> dict[str, bytes]:
    """Every file of a run but `run.json`, which holds timings, by relative path."""
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*"))
            if path.is_file() and path.name != "run.json"}
