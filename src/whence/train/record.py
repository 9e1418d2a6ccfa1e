"""`run.json`: what a run was made from, how, with what, and what came out; and whether it is the same."""

from __future__ import annotations

import platform
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from whence.base.errors import WhenceError
from whence.base.files import read_json
from whence.data.examples import Examples
from whence.data.tokenizer import tokenizer_hash
from whence.train.adapter import trainable
from whence.train.plan import kept_steps
from whence.train.recipe import REDUCTIONS, Recipe

RECORD_NAME = "run.json"
PACKAGES = ("whence", "torch", "transformers", "peft", "tokenizers", "numpy")


@dataclass(frozen=True)
class BaseInfo:
    """What a fine-tune starts from.

    Attributes:
        path: the base model's path or name.
        base_hash: the content hash of its weights.
        tokenizer: its tokenizer, stored with what comes out.
        data: JSON-able facts about where the examples came from (source, columns, template, max_length, ...).
    """

    path: str
    base_hash: str
    tokenizer: PreTrainedTokenizerBase
    data: Mapping[str, Any] = field(default_factory=dict)


def new_record(model: PreTrainedModel | PeftModel, examples: Examples, recipe: Recipe, base: BaseInfo,
               steps: int) -> dict[str, Any]:
    """The record of a run that is about to take its first step."""
    kind = "the LoRA adapters' weights" if recipe.tune == "lora" else "all weights"
    return {
        "status": "training",
        "config": {"recipe": recipe.to_json(), "model": base.path, "dtype": str(model.dtype),
                   "data": dict(base.data)},
        "hashes": {"base": base.base_hash, "data": examples.content_hash,
                   "tokenizer": tokenizer_hash(base.tokenizer)},
        "objective": f"AdamW on {kind}; a step's loss is the {REDUCTIONS[recipe.reduction]}; in nats",
        "counts": {
            **examples.summary(),
            "steps": steps,
            "trained_weights": sum(w.numel() for w in trainable(model).values()),
            "weights": sum(w.numel() for w in model.parameters()),
        },
        "kept_checkpoints": list(kept_steps(steps, recipe)),
        "seeds": {"seed": recipe.seed, "order": "numpy default_rng([seed, epoch]).permutation",
                  "torch": "numpy SeedSequence([seed, k]): k = 0 starts LoRA, k = step its dropout"},
        "machine": machine(model.device),
        "resumed": [],
    }


def machine(device: torch.device) -> dict[str, Any]:
    """What the last bits of a run depend on besides its inputs: device, threads, versions."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor()
    return {"device": device.type, "name": name or platform.machine(), "threads": torch.get_num_threads(),
            "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES},
                         "torch": torch.__version__}}  # with its build, which the package does not always tell


def check_same(stored: Mapping[str, Any], new: Mapping[str, Any], out: Path) -> None:
    """Refuse to go on with a stored run whose recipe, data or base model is another.

    Raises:
        WhenceError: names everything that differs, as stored and as now.
    """
    pairs = {f"recipe {name}": (stored["config"]["recipe"].get(name), value)
             for name, value in new["config"]["recipe"].items()}
    pairs |= {f"{name} hash": (stored["hashes"][name], new["hashes"][name]) for name in ("data", "base")}
    differing = [f"{name} (stored {a!r}, now {b!r})" for name, (a, b) in pairs.items() if a != b]
    if differing:
        raise WhenceError(f"{out}: holds a run with another {'; another '.join(differing)}. Expected the "
                          "same to go on with it: train into another folder, or remove this one")


def read_record(run: str | Path) -> dict[str, Any]:
    """A run's `run.json`.

    Raises:
        WhenceError: there is none, or it is not one of ours.
    """
    path = Path(run) / RECORD_NAME
    record = read_json(path)
    if not isinstance(record, dict) or not {"status", "config", "hashes"} <= set(record):
        raise WhenceError(f"{path}: not the record of a training run; "
                          "expected the keys status, config and hashes")
    return record


def peak_memory(device: torch.device) -> dict[str, int]:
    """Bytes at the highest: of the process's resident memory, and of the accelerator where there is one."""
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes there, in KiB elsewhere
    peak = {"resident_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit}
    if device.type == "cuda":
        peak["accelerator_bytes"] = torch.cuda.max_memory_allocated(device)
    return peak
