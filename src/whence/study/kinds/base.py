"""A base model, made from scratch: a tokenizer, and what it has read.

It reads Python's documentation and, each as a text of its own, prompts and answers like those of the tasks (of another
seed), so that it knows such sentences and not which answers which. Or it is shown how to
copy one of four words (`whence.tasks.copying`), any of them, so that a fine-tune has only to choose.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import AddedToken
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from whence.models.build import build_model, pretrain, save, train_tokenizer
from whence.models.corpus import default_documents
from whence.study.cell import Cell, Row, kind
from whence.study.cost import Work
from whence.study.rows import task_rows
from whence.tasks.copying import FRAMES, PLACES, example, made_up_words

TAUGHT, BATCH, LENGTH, OTHER_SEED = 12_000, 24, 48, 1_000_003


def work(cell: Cell) -> Work:
    """Its steps."""
    options = cell.options
    return Work(options["steps"], options["layers"], BATCH * LENGTH, parameters(options))


def parameters(options: Mapping[str, Any]) -> int:
    """Weights of a model of this width and depth, about."""
    return int(12 * options["layers"] * options["width"] ** 2 + options["vocabulary"] * options["width"])


@kind("base", work)
def base(options: Mapping[str, Any], folder: Path, needs: Sequence[Path]) -> list[Row]:
    """Tokenizer, weights, and the loss before and after. `documents`: whether it reads English, and phrases
    how many times; `taught`: how many words it learns to copy."""
    rows = [row for task in options["tasks"] for row in task_rows(task, OTHER_SEED).train]
    phrases = [row[part].strip() for row in rows for part in ("prompt", "completion")] if options["documents"] else []
    shown = [*default_documents(), *phrases * options["phrases"]] if options["documents"] else []
    words = made_up_words(options["taught"])
    if words:
        shown += taught(words)
    some = [frame.format(words="") for frame in FRAMES] * 50 if words else phrases  # the words are tokens anyway
    tokenizer = train_tokenizer([*(default_documents() if options["documents"] else []), *some], options["vocabulary"])
    tokenizer.add_tokens([AddedToken(word, single_word=True, lstrip=True, normalized=False) for word in words])
    model = build_model(options["architecture"], tokenizer, width=options["width"], layers=options["layers"],
                        heads=options["heads"], context=options["context"], seed=options["seed"])
    losses = pretrain(model, tokenizer, shown, steps=options["steps"], batch=BATCH, length=LENGTH,
                      lr=options["learning_rate"], seed=options["seed"])
    save(model, tokenizer, folder / "model")
    learned = [{"metric": "words copied", "value": copied(model, tokenizer, words)}] if words else []
    return [*learned, {"metric": "parameters", "value": float(model.num_parameters())},
            {"metric": "loss at first", "value": float(np.mean(losses[:20]))},
            {"metric": "loss at last", "value": float(np.mean(losses[-50:]))}]


def copied(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, words: Sequence[str]) -> float:
    """Share of greedy answers that are one of the four words of the prompt."""
    right = 0
    for text in taught(words, seed=2)[:200]:
        ids = tokenizer(text, add_special_tokens=False).input_ids  # the answer is one token, the last
        answer = int(model(input_ids=torch.tensor([ids[:-1]])).logits[0, -1].argmax())
        right += str(tokenizer.decode([answer])).strip() in text.split()[2:6]
    return right / 200


def taught(words: Sequence[str], seed: int = 1) -> list[str]:
    """One of four words copied, any of them, in every frame: which one is left to a fine-tune."""
    rng = random.Random(seed)
    drawn = [example(rng.sample(list(words), len(PLACES)), rng.randrange(len(PLACES)), rng.randrange(len(FRAMES)))
             for _ in range(TAUGHT)]
    return [prompt + answer for prompt, answer in drawn]
