"""`fine_tune`: from the path of a model and of data to a run; what `whence train` calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from whence.data.encode import describe, encode, is_chat
from whence.data.read import read_rows
from whence.models.load import load_model
from whence.train.loop import Trained, train
from whence.train.recipe import Recipe
from whence.train.record import BaseInfo


def fine_tune(model_path: str | Path, data: object, out: str | Path, recipe: Recipe | None = None, *,
              columns: Mapping[str, str] | None = None, split: str | None = None, template: str | None = None,
              max_length: int | None = None, eos: bool = True, device: torch.device | str | None = None,
              save_every: int | None = None, resume: bool = True,
              say: Callable[[str], object] | None = None) -> Trained:
    """Load the model (as float32) and the data, then `whence.train.loop.train`.

    Args:
        model_path: a folder or hub name, see `whence.models.load.load_model`.
        data: a path, dataset or list of dicts; with `columns`, `split`, `template`, `max_length` and `eos`
            see `whence.data.encode.load_examples`.
        out: the run directory.
        recipe: how to fine-tune; None is `Recipe()`.
        save_every, resume: see `train`.
        say: is called, before the first step, with a line on how many rows are used and how many truncated.

    Raises:
        WhenceError: whatever loading and training raise.
    """
    loaded = load_model(model_path, dtype=torch.float32, device=device)
    rows = read_rows(data, columns, split)
    examples = encode(rows, loaded.tokenizer, template=template, max_length=max_length, eos=eos)
    if say is not None:
        say(f"data: {len(examples)}/{len(examples)} rows used; {describe(examples)}")  # bad rows were refused
    source = str(data) if isinstance(data, str | Path) else f"in memory ({type(data).__name__})"
    about = {"source": source, "columns": dict(columns or {}), "split": split, "template": template,
             "max_length": max_length, "eos": eos, "chat": is_chat(rows)}
    where = str(Path(loaded.path).resolve()) if Path(loaded.path).is_dir() else loaded.path  # found from any folder
    base = BaseInfo(where, loaded.base_hash, loaded.tokenizer, about)
    return train(loaded.model, examples, recipe or Recipe(), out, base_info=base, save_every=save_every,
                 resume=resume)
