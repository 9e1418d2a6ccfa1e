"""Scores by part of the model: block, layer, group of layers, kind of module; the parts add up to the score.

With the curvature taken as block-diagonal, the influence is a sum over blocks (Grosse et al. 2023, arXiv 2308.03296,
eq. 30), and so over any grouping of them. Restricting a ranking to the lower, middle or upper third of the layers is
taking one part of `by_layer_group` (their section 5.3.2).

Shapes: B blocks, G parts, Q queries, N training rows.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64

from whence.base.errors import WhenceError

OUTSIDE = "outside the layers"


@runtime_checkable
class Placed(Protocol):
    """What a grouping looks at: a `Block`, or anything with its name and layer."""

    @property
    def name(self) -> str: ...

    @property
    def layer(self) -> int | None: ...


@dataclass(frozen=True)
class ScoreParts:
    """Scores split into named parts.

    Attributes:
        by: what they are split by: `block`, `layer`, `layer group`, `module`.
        names: name of each part, unique.
        blocks: for each part the indices of its blocks.
        values: float64 [G, Q, N], in the unit of the scores.
    """

    by: str
    names: tuple[str, ...]
    blocks: tuple[tuple[int, ...], ...]
    values: Float64[np.ndarray, "G Q N"]

    @property
    def total(self) -> Float64[np.ndarray, "Q N"]:
        """The score: the sum of all parts."""
        return self.values.sum(axis=0)

    def only(self, *names: str) -> Float64[np.ndarray, "Q N"]:
        """Scores restricted to some parts, such as the upper third of the layers.

        Raises:
            WhenceError: a part that does not exist, or none named.
        """
        unknown = [name for name in names if name not in self.names]
        if unknown or not names:
            raise WhenceError(f"no {self.by} named {unknown[0]!r}; expected one of {', '.join(self.names)}"
                              if unknown else f"name at least one {self.by} of {', '.join(self.names)}")
        return self.values[[self.names.index(name) for name in dict.fromkeys(names)]].sum(axis=0)


def by_block(scores: Float64[np.ndarray, "B Q N"], blocks: Sequence[Placed]) -> ScoreParts:
    """Every block by itself."""
    return _grouped("block", scores, [block.name for block in blocks])


def by_layer(scores: Float64[np.ndarray, "B Q N"], blocks: Sequence[Placed]) -> ScoreParts:
    """One part a transformer layer, from the input up; blocks outside the layers (the output head) last."""
    return _grouped("layer", scores, [_layer_name(block.layer) for block in blocks], _layer_order(blocks))


def by_layer_group(scores: Float64[np.ndarray, "B Q N"], blocks: Sequence[Placed], groups: int = 3) -> ScoreParts:
    """Consecutive layers in `groups` parts as equal as can be, the larger ones first; those outside form their own.

    Raises:
        WhenceError: fewer layers than groups, or no group.
    """
    layers = sorted({block.layer for block in blocks if block.layer is not None})
    if not 1 <= groups <= len(layers):
        raise WhenceError(f"groups={groups}: the blocks stand in {len(layers)} layers; expected 1 to {len(layers)}")
    names: dict[int | None, str] = {None: OUTSIDE}
    for part in np.array_split(np.array(layers), groups):
        name = f"layers {part[0]}-{part[-1]}" if len(part) > 1 else _layer_name(int(part[0]))
        names.update({int(layer): name for layer in part})
    return _grouped("layer group", scores, [names[block.layer] for block in blocks], _layer_order(blocks))


def by_module(scores: Float64[np.ndarray, "B Q N"], blocks: Sequence[Placed]) -> ScoreParts:
    """The same module of all layers together: `self_attn.q_proj`, `mlp.c_fc`, `self_attn.v_proj.lora_B`."""
    return _grouped("module", scores, [module_type(block.name) for block in blocks])


def module_type(name: str) -> str:
    """A block's name without what differs between layers: what stands after the layer's number.

    Further numbers (experts) become `*`; the name of a LoRA adapter is left out.

    >>> module_type("model.layers.11.mlp.up_proj"), module_type("lm_head")
    ('mlp.up_proj', 'lm_head')
    >>> module_type("base_model.model.model.layers.0.self_attn.q_proj.lora_A.default")
    'self_attn.q_proj.lora_A'
    """
    parts = re.sub(r"^.*?\.\d+\.", "", name).split(".")
    for lora in ("lora_A", "lora_B"):
        if lora in parts:
            parts = parts[: parts.index(lora) + 1]
    return ".".join("*" if part.isdigit() else part for part in parts)


def _layer_name(layer: int | None) -> str:
    return OUTSIDE if layer is None else f"layer {layer}"


def _layer_order(blocks: Sequence[Placed]) -> list[int]:
    """Blocks from the input up, those outside the layers last."""
    return sorted(range(len(blocks)), key=lambda b: (blocks[b].layer is None, blocks[b].layer or 0))


def _grouped(by: str, scores: np.ndarray, names: Sequence[str], order: Sequence[int] | None = None) -> ScoreParts:
    if len(scores) != len(names):
        raise WhenceError(f"scores of {len(scores)} blocks, and {len(names)} blocks; expected one [Q, N] for each")
    parts: dict[str, list[int]] = {}
    for b in order if order is not None else range(len(names)):
        parts.setdefault(names[b], []).append(b)
    values = np.stack([scores[rows].sum(axis=0) for rows in parts.values()]) if parts else scores[:0]
    return ScoreParts(by, tuple(parts), tuple(tuple(sorted(rows)) for rows in parts.values()), values)
