"""Which weights a recipe trains: adapters added to chosen linear layers, or all of the model."""

from __future__ import annotations

from fnmatch import fnmatchcase

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from whence.base.errors import WhenceError
from whence.models.build import seeded
from whence.models.quiet import quiet
from whence.train.plan import stream_seed
from whence.train.recipe import ALL_LINEAR, Recipe


def prepare(model: PreTrainedModel | PeftModel, recipe: Recipe) -> PreTrainedModel | PeftModel:
    """Mark the weights that `recipe` trains, adding LoRA adapters where it says so.

    LoRA's start (A random, B zero) depends on `recipe.seed` alone, and torch's own random state is left as it
    was. The layers of `model` are changed in place; use the model that is returned.

    Raises:
        WhenceError: no linear layer has a wanted name, the model already carries an adapter, or a weight to
            train is narrower than float32 (AdamW would lose small updates).
    """
    if isinstance(model, PeftModel):
        raise WhenceError("the model already carries an adapter; expected a plain model "
                          "(merge the adapter first: `model.merge_and_unload()`)")
    if recipe.tune == "full":
        model.requires_grad_(True)
    else:
        names = target_names(model, recipe.targets)
        # A GPT-2 Conv1D stores its weight as [in, out]; PEFT wants to be told.
        conv = all(isinstance(model.get_submodule(name), Conv1D) for name in names)
        config = LoraConfig(task_type="CAUSAL_LM", r=recipe.rank, lora_alpha=recipe.alpha,
                            lora_dropout=recipe.dropout, target_modules=names, fan_in_fan_out=conv)
        with seeded(stream_seed(recipe.seed, 0)), quiet():
            model = get_peft_model(model, config)
    for name, weight in trainable(model).items():
        if weight.dtype not in (torch.float32, torch.float64):
            raise WhenceError(f"{name} is {weight.dtype}; expected float32: load the model as float32 to "
                              "train it (the forward pass may still run under autocast, dtype 'bf16')")
    return model


def target_names(model: PreTrainedModel, patterns: tuple[str, ...]) -> list[str]:
    """Names of the linear layers (nn.Linear, Conv1D), the output head left out, that a pattern matches.

    Raises:
        WhenceError: a pattern that matches none, with the last parts of the names there are.
    """
    head = model.get_output_embeddings()
    linear = [name for name, module in model.named_modules()
              if isinstance(module, nn.Linear | Conv1D) and module is not head]
    wanted: set[str] = set()
    for pattern in patterns:
        found = [name for name in linear if pattern == ALL_LINEAR or fnmatchcase(name, pattern)
                 or fnmatchcase(name.rpartition(".")[2], pattern)]
        if not found:
            kinds = ", ".join(sorted({name.rpartition(".")[2] for name in linear}))
            raise WhenceError(f"targets: {pattern!r} matches no linear layer; expected a glob pattern of a "
                              f"whole name or of a last part ({kinds}), or {ALL_LINEAR!r}")
        wanted.update(found)
    return [name for name in linear if name in wanted]


def trainable(model: nn.Module) -> dict[str, Tensor]:
    """The weights that are trained, by name; a weight with two names (tied) is there once."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
