"""Blocks: the linear maps of a model, one gradient matrix each, and which of them are attributed.

For a linear map with inputs a [tokens, inputs] and output gradients d [tokens, outputs] the gradient of an
example is G = sum over its tokens of d a^T [outputs, inputs]; everything that whence computes is made of
these. Parameters outside linear maps (norms, embeddings, fused experts of a mixture) are in no block.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Literal, get_args

from peft.tuners.lora import LoraLayer
from peft.utils import ModulesToSaveWrapper
from rich.table import Table
from torch import nn
from transformers.pytorch_utils import Conv1D

from whence.base.errors import WhenceError

Kind = Literal["linear", "conv1d", "lora_a", "lora_b"]
KINDS: tuple[str, ...] = get_args(Kind)
LORA_KINDS = ("lora_a", "lora_b")


@dataclass(frozen=True)
class Block:
    """One linear map.

    Attributes:
        name: the module's name in the model.
        module: the module itself; hooks on it see inputs [..., inputs] and outputs [..., outputs].
        kind: "linear" (weight [outputs, inputs]), "conv1d" (transformers' Conv1D, weight [inputs, outputs]),
            "lora_a", "lora_b" (the two maps of a LoRA layer's active adapter, both stored as linear).
        inputs, outputs: sizes of the map.
        bias: whether the map has a bias, which then counts as one more input that is always 1. LoRA maps
            have none (unless trained with lora_bias).
        parameters: outputs * inputs, plus outputs for a bias.
        layer: index of the transformer layer it stands in, or None (output head, projections outside).
    """

    name: str
    module: nn.Module
    kind: Kind
    inputs: int
    outputs: int
    bias: bool
    parameters: int
    layer: int | None


def list_blocks(model: nn.Module) -> list[Block]:
    """All linear maps of `model` in its own order; a module used in several places comes once.

    In a model with LoRA the frozen weights under an adapter are listed too, as "linear" or "conv1d", and of
    several adapters only the active ones. A LoRA variant whose update is not B A x (DoRA and its like) is a
    `WhenceError`: its gradient is not that of two linear maps. rsLoRA and any alpha are plain scalings and
    fine, and so is LoRA dropout, which is off in eval mode. LoRA on embeddings or convolutions is in no
    block.
    """
    lora: dict[int, Kind] = {}
    idle: set[int] = set()
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            _refuse_variants(name, module)
            for maps, kind in ((module.lora_A, "lora_a"), (module.lora_B, "lora_b")):
                lora.update({id(maps[key]): kind for key in module.active_adapters if key in maps})  # type: ignore[misc]
                idle.update(id(maps[key]) for key in maps if key not in module.active_adapters)
        elif isinstance(module, ModulesToSaveWrapper):  # the trained copy runs in place of the original
            idle.update(id(part) for part in module.original_module.modules())
    return [_block(name, module, lora.get(id(module))) for name, module in model.named_modules()
            if isinstance(module, nn.Linear | Conv1D) and id(module) not in idle]


def select_blocks(model: nn.Module, patterns: Sequence[str] | None = None,
                  kinds: Sequence[str] | None = None) -> list[Block]:
    """The blocks to attribute, in the model's order.

    `kinds` defaults to the LoRA maps if the model has any, else to linear and conv1d. `patterns` are globs
    against the whole module name (`*.q_proj`), or components of it without wildcard (`q_proj`,
    `self_attn.q_proj`, `layers.0`); a block is taken if one of them matches. Modules trained whole beside
    LoRA (`modules_to_save`) have kind linear, and are taken only if `kinds` says so.

    Without `patterns`, the frozen or full weights are those of the transformer layers, without the output
    head: its gradient [vocabulary, width] outweighs all other blocks of a small model, its curvature factor
    is vocabulary x vocabulary, and where it is tied to the embeddings its weight also acts as a table, so
    that its gradient is not that of a linear map.

    Raises:
        WhenceError: an unknown kind; a kind or a pattern that no block has (with the nearest names); a block
            whose weight is also another module's; an adapter that is not LoRA, if `kinds` are left out.
    """
    if unknown := [kind for kind in kinds or () if kind not in KINDS]:
        raise WhenceError(f"kind {unknown[0]!r}; expected one of {', '.join(KINDS)}")
    everything = list_blocks(model)
    adapted = any(block.kind in LORA_KINDS for block in everything)
    if kinds is None and not adapted and getattr(model, "peft_config", None):
        raise WhenceError("the model has an adapter without LoRA maps, and only those can be attributed; "
                          "expected a LoRA adapter (or kinds=['linear'] for the base model's weights)")
    wanted = tuple(kinds) if kinds is not None else LORA_KINDS if adapted else ("linear", "conv1d")
    pool = [block for block in everything if block.kind in wanted]
    if not pool:
        there = sorted({block.kind for block in everything})
        raise WhenceError(f"no block of kind {', '.join(wanted)}; met {', '.join(there) or 'no blocks'}")
    if patterns is None:
        chosen = [block for block in pool if block.kind in LORA_KINDS or block.layer is not None]
    else:
        for pattern in patterns:
            if not any(_matches(pattern, block.name) for block in pool):
                near = ", ".join(_nearest(pattern, pool))
                raise WhenceError(f"no block matches {pattern!r} among the {len(pool)} of kind "
                                  f"{', '.join(wanted)}; the nearest names: {near}")
        chosen = [block for block in pool if any(_matches(pattern, block.name) for pattern in patterns)]
    if not chosen:
        raise WhenceError(f"no block of kind {', '.join(wanted)} stands in a transformer layer; name them by "
                          f"pattern ({', '.join(block.name for block in pool[:3])})")
    _refuse_shared_weights(model, chosen)
    return chosen


def describe_blocks(blocks: Sequence[Block]) -> Table:
    """A table of the blocks, with their number and parameters in all below."""
    total = sum(block.parameters for block in blocks)
    table = Table(caption=f"{len(blocks)} blocks, {total:,} parameters", box=None, padding=(0, 1, 0, 0))
    table.add_column("block", overflow="fold")
    for heading in ("kind", "layer", "inputs", "outputs", "bias", "parameters"):
        table.add_column(heading, justify="left" if heading in ("kind", "bias") else "right")
    for block in blocks:
        layer, bias = "" if block.layer is None else str(block.layer), "yes" if block.bias else ""
        table.add_row(block.name, block.kind, layer, str(block.inputs), str(block.outputs), bias,
                      f"{block.parameters:,}")
    return table


def _block(name: str, module: nn.Linear | Conv1D, lora: Kind | None) -> Block:
    kind: Kind
    if isinstance(module, nn.Linear):
        kind, inputs, outputs = lora or "linear", module.in_features, module.out_features
    else:
        kind, (inputs, outputs) = "conv1d", module.weight.shape
    bias = module.bias is not None
    index = re.search(r"\.(\d+)\.", name)
    return Block(name, module, kind, inputs, outputs, bias, outputs * (inputs + bias),
                 int(index.group(1)) if index else None)


def _refuse_variants(name: str, module: LoraLayer) -> None:
    for key in module.active_adapters:
        if key in module.lora_variant:
            variant = type(module.lora_variant[key]).__name__
            raise WhenceError(f"{name}: its adapter is a {variant} (DoRA or another variant), whose "
                              "gradient is not that of two linear maps; use plain LoRA (use_dora=False)")


def _refuse_shared_weights(model: nn.Module, blocks: Sequence[Block]) -> None:
    owners: dict[int, list[str]] = {}
    for name, module in model.named_modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(id(parameter), []).append(name)
    for block in blocks:
        others = [name for name in owners[id(block.module.weight)] if name != block.name]
        if others:
            raise WhenceError(f"{block.name}: its weight is also that of {others[0]}, so its gradient is "
                              "a sum over both uses and not that of one linear map; leave it out")


def _matches(pattern: str, name: str) -> bool:
    if any(sign in pattern for sign in "*?["):
        return fnmatchcase(name, pattern)
    return f".{pattern}." in f".{name}."


def _nearest(pattern: str, blocks: Sequence[Block]) -> list[str]:
    """Up to five names, or components of names, that look most like the pattern."""
    names = dict.fromkeys(part for block in blocks for part in [block.name, *block.name.split(".")]
                          if not part.isdigit())
    near = get_close_matches(pattern.strip("*."), names, n=5, cutoff=0.4)
    return near or [block.name for block in blocks[:5]]
