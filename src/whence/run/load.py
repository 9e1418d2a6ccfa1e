"""Read a run from the folder that `whence train` left, and hold everything in it against its record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from whence.base.errors import WhenceError
from whence.data.examples import Examples
from whence.data.tokenizer import tokenizer_hash
from whence.models.load import load_model
from whence.train.record import read_record


def stored_run(folder: Path, base: str | Path | None = None, device: torch.device | str | None = None,
               ) -> dict[str, Any]:
    """Model, tokenizer, training examples, encoding, base and record, as `Run` takes them.

    Raises:
        WhenceError: no run, an unfinished one, or contents that are not those the run was made with (by hash).
    """
    record = read_record(folder)
    if record["status"] != "trained":
        raise WhenceError(f"{folder}: the fine-tune is not finished (status {record['status']!r}); give the same "
                          "`whence train` command again and it goes on where it stopped")
    base, hashes = str(base or record["config"]["model"]), record["hashes"]
    dtype = getattr(torch, record["config"]["dtype"].removeprefix("torch."))  # the base may be stored in another
    if (folder / "adapter").exists():
        loaded = load_model(base, adapter=folder / "adapter", dtype=dtype, device=device)
        same(folder, "base model", hashes["base"], loaded.base_hash)
    else:
        loaded = load_model(folder / "model", dtype=dtype, device=device)
    same(folder, "fine-tuned model", hashes["weights"], loaded.adapter_hash or loaded.base_hash)
    train = Examples.read_parquet(folder / "train.parquet")
    same(folder, "training data (train.parquet)", hashes["data"], train.content_hash)
    same(folder, "tokenizer", hashes["tokenizer"], tokenizer_hash(loaded.tokenizer))
    data = record["config"]["data"]
    encoding = {name: data[name] for name in ("template", "max_length", "eos", "chat") if name in data}
    return {"model": loaded.model, "tokenizer": loaded.tokenizer, "train": train, "encoding": encoding, "base": base,
            "record": record}


def same(where: Path, what: str, stored: str, met: str) -> None:
    """Refuse what is not what the record says, by content hash."""
    if stored != met:
        raise WhenceError(f"{where}: the {what} is not the one this run was made with (content hash stored {stored}, "
                          f"met {met}); restore it, or train again")
