"""Checkpoints: the trained weights and AdamW's state after a step, enough to go on and to attribute from.

A run keeps `checkpoints/step-000040` (the recipe's evenly spaced ones) and, while it is not finished, at most
one newer `checkpoints/resume-000057` from which it would go on. Each folder holds

- `weights.safetensors`: the weights that are trained, by name in the (adapted) model;
- `optimizer.safetensors`: AdamW's `exp_avg`, `exp_avg_sq` and `step` of each, as `exp_avg/<name>` and so on;
- `state.json`: step, epoch, lr, loss, grad_norm of that step.

There is no random state to keep: the data order and each step's dropout follow from the recipe's seed and the
step's number (`whence.train.plan`).
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from whence.base.errors import WhenceError
from whence.base.files import atomic_folder, read_json, write_json
from whence.train.adapter import trainable

MOMENTS = ("exp_avg", "exp_avg_sq", "step")


def save_checkpoint(folder: Path, model: nn.Module, optimizer: torch.optim.Optimizer,
                    state: Mapping[str, Any]) -> None:
    """Write a checkpoint as a whole or not at all."""
    weights = trainable(model)
    moments = {f"{moment}/{name}": optimizer.state[weight][moment]
               for name, weight in weights.items() if weight in optimizer.state for moment in MOMENTS}
    with atomic_folder(folder) as part:
        save_file({name: weight.detach().contiguous() for name, weight in weights.items()},
                  part / "weights.safetensors")
        save_file({name: moment.contiguous() for name, moment in moments.items()},
                  part / "optimizer.safetensors")
        write_json(part / "state.json", dict(state))


def load_checkpoint(model: nn.Module, folder: str | Path) -> nn.Module:
    """Put the weights stored at `folder` into `model`, in place, and return it.

    `model` is as it was trained: with the run's adapter attached for LoRA, plain for a full fine-tune.

    Raises:
        WhenceError: no checkpoint there, a name the model lacks or does not train, or another shape.
    """
    stored = _read(Path(folder) / "weights.safetensors")
    own = dict(model.named_parameters())
    missing = sorted(set(stored) - set(own))
    if missing:
        raise WhenceError(f"{folder}: has weights for {missing[0]!r}, which the model lacks ({len(missing)} "
                          f"of {len(stored)}); expected the model the checkpoint is of, its adapter attached")
    for name, value in stored.items():
        if own[name].shape != value.shape:
            raise WhenceError(f"{folder}: {name} has shape {tuple(value.shape)}, the model's has "
                              f"{tuple(own[name].shape)}; expected the model the checkpoint is of")
    with torch.no_grad():
        for name, value in stored.items():
            own[name].copy_(value)
    return model


def load_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module, folder: str | Path) -> None:
    """Give `optimizer`, made for `model`, the state stored at `folder`."""
    stored = _read(Path(folder) / "optimizer.safetensors")
    for name, weight in trainable(model).items():
        if f"step/{name}" in stored:
            state = {moment: stored[f"{moment}/{name}"] for moment in MOMENTS}
            # AdamW keeps its step counter on the CPU, and the moments beside their weight.
            optimizer.state[weight] = {m: v if m == "step" else v.to(weight.device) for m, v in state.items()}


def checkpoint_folders(run: str | Path) -> list[Path]:
    """The kept checkpoints of a run, in the order of their steps."""
    return sorted((Path(run) / "checkpoints").glob("step-*"), key=checkpoint_step)


def newest_checkpoint(run: str | Path) -> Path | None:
    """The checkpoint to go on from, kept or not; None before the first."""
    folders = [*checkpoint_folders(run), *(Path(run) / "checkpoints").glob("resume-*")]
    return max(folders, key=checkpoint_step, default=None)


def checkpoint_step(folder: Path) -> int:
    """The step a checkpoint's name says."""
    return int(folder.name.rpartition("-")[2])


def read_state(folder: str | Path) -> dict[str, Any]:
    """What `state.json` holds: step, epoch, lr, loss, grad_norm, tokens."""
    return read_json(Path(folder) / "state.json")


def drop_resume_checkpoints(run: str | Path, before: int) -> None:
    """Remove the resume checkpoints of steps before `before`; killed half-way, none is left half there."""
    for folder in (Path(run) / "checkpoints").glob("resume-*"):
        if checkpoint_step(folder) < before:
            hidden = folder.with_name(f".{folder.name}.old")
            folder.rename(hidden)
            shutil.rmtree(hidden)


def drop_leftovers(run: str | Path) -> None:
    """Remove what a killed process left half-written or half-removed beside the checkpoints."""
    for folder in (Path(run) / "checkpoints").glob(".*-*"):
        shutil.rmtree(folder)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError:
        raise WhenceError(f"{path}: no such file; expected a checkpoint folder") from None
    except SafetensorError as error:
        raise WhenceError(f"{path}: not a safetensors file ({error})") from None
