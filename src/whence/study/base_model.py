"""The small language model that the studies fine-tune: made from scratch, pretrained on text at hand."""

from __future__ import annotations

import time
from pathlib import Path

from whence.base.files import write_json
from whence.models.build import build_model, pretrain, save, train_tokenizer
from whence.models.corpus import default_documents, stdlib_docstrings


def study_base(folder: str | Path, *, width: int = 192, layers: int = 4, steps: int = 2000, seed: int = 0) -> Path:
    """A Llama-architecture model with a 2,048-token BPE, pretrained on Python's documentation and docstrings.

    Made once: a folder that holds a finished model is returned as it is. With the default sizes, 2.6 M
    parameters and 4.1 M tokens seen; `pretraining.json` says how long it took.
    """
    folder = Path(folder)
    if (folder / "pretraining.json").exists():
        return folder
    documents = default_documents() + stdlib_docstrings()
    tokenizer = train_tokenizer(documents, 2048)
    model = build_model("llama", tokenizer, width=width, layers=layers, heads=4, context=512, seed=seed)
    start = time.perf_counter()
    losses = pretrain(model, tokenizer, documents, steps=steps, batch=16, length=128, seed=seed)
    save(model, tokenizer, folder)
    write_json(folder / "pretraining.json", {
        "documents": len(documents), "characters": sum(map(len, documents)), "steps": steps,
        "tokens_seen": steps * 16 * 128, "parameters": model.num_parameters(),
        "loss_first": losses[0], "loss_last_50_mean": sum(losses[-50:]) / 50,
        "seconds": time.perf_counter() - start})
    return folder
