"""`Recipe`: everything that decides the numbers of a fine-tune, besides the model and the data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from numbers import Integral, Real
from typing import Any

from whence.base.errors import WhenceError

TUNES = ("lora", "full")
SCHEDULES = ("linear", "cosine", "constant")
REDUCTIONS = {
    "token": "mean over the response tokens of the batch of -log p",
    "example": "mean over the examples of the batch of the sum over response tokens of -log p",
}
DTYPES = ("fp32", "bf16")
ALL_LINEAR = "all-linear"
EPOCHS = 3


@dataclass(frozen=True)
class Recipe:
    """How to fine-tune: two runs of one recipe on the same model, examples and machine end in the same bits.

    Attributes:
        tune: `lora` trains adapters on the linear layers, `full` trains every weight.
        rank, alpha, dropout, targets: LoRA's own (the update is `alpha / rank * B A`); with `full` they stay
            at their defaults. `targets` are glob patterns over the names of linear layers, whole
            (`model.layers.0.*`) or last part (`q_proj`); `all-linear` is every one but the output head.
        epochs, max_steps: how long; one of them, and 3 epochs where neither is given.
        batch_size: examples an optimizer step. The last batch of an epoch may be smaller.
        learning_rate, schedule, warmup_ratio: see `whence.train.plan.learning_rate`.
        weight_decay: AdamW's, on weights with two axes or more; never on biases and norms.
        betas, eps: AdamW's.
        clip_norm: the gradient's largest norm over all trained weights; None does not clip.
        seed: of the data order, LoRA's start and dropout.
        reduction: the objective of one batch. `token` is the mean over its response tokens, as Trainer and
            TRL have it; `example` is the mean over its examples of the sum over their response tokens.
        checkpoints: how many are kept, evenly spaced; the last step's always is.
        dtype: `fp32`, or `bf16` for a forward pass under autocast (weights and optimizer stay float32).

    Raises:
        WhenceError: a value that cannot be used, with what was met and what is expected.
    """

    tune: str = "lora"
    rank: int = 8
    alpha: int = 16
    dropout: float = 0.0
    targets: tuple[str, ...] = (ALL_LINEAR,)
    epochs: int | None = None
    max_steps: int | None = None
    batch_size: int = 8
    learning_rate: float = 2e-4
    schedule: str = "linear"
    warmup_ratio: float = 0.0
    weight_decay: float = 0.0
    betas: tuple[float, ...] = (0.9, 0.999)
    eps: float = 1e-8
    clip_norm: float | None = 1.0
    seed: int = 0
    reduction: str = "token"
    checkpoints: int = 4
    dtype: str = "fp32"

    def __post_init__(self) -> None:
        for field in fields(self):  # else what is written down could not be read back
            object.__setattr__(self, field.name, _typed(field.name, getattr(self, field.name), field.default))
        for name, allowed in (("tune", TUNES), ("schedule", SCHEDULES), ("reduction", tuple(REDUCTIONS)),
                              ("dtype", DTYPES)):
            if getattr(self, name) not in allowed:
                raise WhenceError(f"recipe: {name} is {getattr(self, name)!r}; "
                                  f"expected {' or '.join(allowed)}")
        for name in ("rank", "batch_size", "checkpoints"):
            self._check(name, getattr(self, name) >= 1, "a whole number of at least 1")
        for name in ("alpha", "learning_rate", "eps"):
            self._check(name, 0 < getattr(self, name) < math.inf, "a number above 0")
        self._check("weight_decay", 0 <= self.weight_decay < math.inf, "a number of at least 0")
        self._check("dropout", 0 <= self.dropout < 1, "at least 0 and below 1")
        self._check("warmup_ratio", 0 <= self.warmup_ratio < 1, "at least 0 and below 1")
        self._check("betas", len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas),
                    "two numbers, each at least 0 and below 1")
        self._check("clip_norm", self.clip_norm is None or 0 < self.clip_norm < math.inf,
                    "a number above 0, or none for no clipping")
        self._check("seed", 0 <= self.seed < 2**63, "a whole number of at least 0, below 2^63")
        self._check("targets", len(self.targets) > 0, "at least one pattern")
        if self.epochs is None and self.max_steps is None:
            object.__setattr__(self, "epochs", EPOCHS)
        if self.epochs is not None and self.max_steps is not None:
            raise WhenceError(f"recipe: epochs is {self.epochs} and max_steps is {self.max_steps}; "
                              "expected one of them, and the other none")
        for name in ("epochs", "max_steps"):
            value = getattr(self, name)
            self._check(name, value is None or value >= 1, "a whole number of at least 1")
        if self.tune == "full":
            for field in fields(self):
                if field.name in ("rank", "alpha", "dropout", "targets") and (
                        getattr(self, field.name) != field.default):
                    raise WhenceError(f"recipe: {field.name} is LoRA's, yet tune is 'full'; leave it out, "
                                      "or choose tune 'lora'")

    def _check(self, name: str, good: bool, expected: str) -> None:
        if not good:
            raise WhenceError(f"recipe: {name} is {getattr(self, name)!r}; expected {expected}")

    def to_json(self) -> dict[str, Any]:
        """A JSON-able mapping of every field; `from_json` gives back an equal recipe."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Recipe:
        """Read what `to_json` gave; a field left out has its default, an unknown one is refused."""
        defaults = {field.name: field.default for field in fields(cls)}
        if unknown := sorted(set(value) - set(defaults)):
            raise WhenceError(f"recipe: unknown field {unknown[0]!r}; expected some of {', '.join(defaults)}")
        return cls(**{name: _typed(name, given, defaults[name]) for name, given in value.items()})


def _typed(name: str, given: Any, default: Any) -> Any:
    """`given` in the type of its field's default, which JSON may write as a list or as 1 for 1.0."""
    kind = int if default is None else type(default)
    if given is None and name in ("epochs", "max_steps", "clip_norm"):
        return None
    if kind is tuple and isinstance(given, list | tuple):
        return tuple(_typed(name, item, default[0]) for item in given)
    if kind is int and isinstance(given, Integral) and not isinstance(given, bool):
        return int(given)
    if kind is float and isinstance(given, Real) and not isinstance(given, bool):
        return float(given)
    if kind is str and isinstance(given, str):
        return given
    expected = {tuple: "a list", str: "text", int: "a whole number", float: "a number"}[kind]
    raise WhenceError(f"recipe: {name} is {given!r}; expected {expected}")
