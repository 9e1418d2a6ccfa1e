"""`Scoring`: from Gram matrices to a ranking, with the questionable choices as switches.

Every published influence score is a function of the blocks' Gram matrices K = G G^T and K_v = V G^T, so blocks can be
merged (K of a merged block is the sum), losses can be means instead of sums (rows and columns scaled), and rows can be
dropped after one pass over the data.

Shapes: Q queries, N rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from whence.base.errors import WhenceError
from whence.curvature.gram import Gram, add_up
from whence.methods.evidence import Evidence
from whence.methods.registry import METHODS, MethodCall, parse

GRAM_METHODS = ("gradient-dot", "datainf", "lissa", "fisher")
ROBUST_SIGMAS = 3.5  # above the median of the log norms: an outlier (Iglewicz & Hoaglin 1993)
CHOICES = {"blocks": ("tensor", "module", "model"), "reduction": ("sum", "mean"), "lissa": ("published", "corrected"),
           "normalise": ("none", "unit", "column"), "outliers": ("kept", "dropped"), "queries": ("positive", "all")}


@dataclass(frozen=True)
class Scoring:
    """The switches between gradients and a ranking.

    Attributes:
        blocks: what a curvature is inverted on: each `tensor` (LoRA's A and B apart), `module` (together), `model`.
        reduction: of an example's loss: `sum` over its counted tokens, or their `mean`.
        damping, rule: see `whence.curvature.damping`.
        lissa: which recursion.
        normalise: divide by `unit` norms of the rows' gradients, or by each `column`'s root mean square over queries.
        absolute: rank by |score|.
        outliers: `dropped` leaves out rows whose gradient norm is a high outlier (label-blind).
        queries: of the `positive` group alone, as the published harmful sets have them, or `all`.

    Raises:
        WhenceError: a value that is not among the choices.
    """

    blocks: str = "tensor"
    reduction: str = "sum"
    damping: float = 0.1
    rule: str = "block"
    lissa: str = "corrected"
    normalise: str = "none"
    absolute: bool = False
    outliers: str = "kept"
    queries: str = "all"

    def __post_init__(self) -> None:
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise WhenceError(f"{name}={getattr(self, name)!r}: expected {', '.join(allowed)}")

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def evidence(self, found: Evidence, train_tokens: np.ndarray, query_tokens: np.ndarray) -> Evidence:
        """The evidence as this scoring sees it; tokens [N], [Q] are those that count."""
        grams = list(found.grams)
        if self.reduction == "mean":
            grams = [scaled(gram, 1 / train_tokens, 1 / query_tokens) for gram in grams]
        if self.blocks == "module":
            grams = by_module(grams)
        elif self.blocks == "model":
            grams = [add_up(grams)]
        return replace(found, grams=tuple(grams), _whole=[])

    def call(self, name: str) -> MethodCall:
        """The method that stands for `name` under these switches."""
        if name not in GRAM_METHODS or name == "gradient-dot":
            return parse(name)
        given: dict[str, Any] = {"damping": self.damping}
        if self.rule != "block":
            given["rule"] = self.rule
        method = "lissa-published" if (name, self.lissa) == ("lissa", "published") else name
        return MethodCall(METHODS[method], given)

    def scores(self, name: str, seen: Evidence) -> Float[np.ndarray, "Q N"]:
        """What method `name` says, of evidence that `evidence` gave; positive = proponent."""
        gradient = name in GRAM_METHODS
        dot = name == "gradient-dot" and bool(seen.grams)
        values = seen.whole.cross / seen.whole.n if dot else self.call(name)(seen).values
        if not gradient:
            return values
        if self.normalise == "unit":
            values = over(values, np.sqrt(np.diag(seen.whole.train)))
        elif self.normalise == "column":
            values = over(values, np.sqrt(np.square(values).mean(axis=0)))
        return np.abs(values) if self.absolute else values

    def kept(self, name: str, seen: Evidence) -> Bool[np.ndarray, " N"]:
        """The rows that are ranked at all."""
        if self.outliers == "kept" or name not in GRAM_METHODS:
            return np.ones(len(seen.train), dtype=bool)
        return ~high_outliers(np.sqrt(np.diag(seen.whole.train)))


def scaled(gram: Gram, train: Float[np.ndarray, " N"], query: Float[np.ndarray, " Q"]) -> Gram:
    """The Gram matrices of rows and queries multiplied by a number each."""
    return Gram(gram.name, gram.parameters, gram.train * np.outer(train, train), gram.cross * np.outer(query, train),
                gram.query_norms * query**2)


def by_module(grams: list[Gram]) -> list[Gram]:
    """LoRA's A and B of one linear map as one block; blocks that are no adapter's stay as they are."""
    modules: dict[str, list[Gram]] = {}
    for gram in grams:
        modules.setdefault(gram.name.split(".lora_")[0], []).append(gram)
    return [add_up(parts, name) for name, parts in modules.items()]


def over(values: Float[np.ndarray, "Q N"], sizes: Float[np.ndarray, " N"]) -> Float[np.ndarray, "Q N"]:
    """Each column divided by its size; 0 where that is 0."""
    return np.divide(values, sizes, out=np.zeros_like(values), where=sizes > 0)


def high_outliers(norms: Float[np.ndarray, " N"]) -> Bool[np.ndarray, " N"]:
    """Log norms more than 3.5 robust standard deviations (1.4826 x median absolute deviation) above the median."""
    logs = np.log(np.maximum(norms, np.finfo(float).tiny))
    middle = np.median(logs)
    spread = 1.4826 * np.median(np.abs(logs - middle))
    return logs > middle + ROBUST_SIGMAS * spread if spread > 0 else np.zeros(len(logs), dtype=bool)


def scorings(written: Mapping[str, Mapping[str, Any]]) -> dict[str, Scoring]:
    """Scorings by name, from plain values."""
    return {name: Scoring(**options) for name, options in written.items()}
