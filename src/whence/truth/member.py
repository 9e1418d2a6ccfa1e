"""Train one member of a bank and measure the queries under it.

A member takes the steps of the whole run, with the rows that it leaves out taken out of their batches: order,
learning rates, LoRA's start and dropout are those of the run, so that members differ by their rows and by nothing
else, and the member that keeps every row ends in the very weights of the run. A batch's loss is reduced over what is
left of it, as the recipe says; a batch of which nothing is left makes no step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from whence.base.errors import WhenceError
from whence.data.examples import Examples
from whence.measure.measurement import LogProb, Measurement
from whence.sweep.sweep import Layout, sweep
from whence.train.adapter import prepare, trainable
from whence.train.plan import plan_steps
from whence.train.recipe import Recipe
from whence.train.training import Training, training_mode
from whence.truth.prefix import Prefix, first_trained, fits
from whence.truth.subsets import Subset


@dataclass(frozen=True)
class Outcome:
    """What became of the queries.

    Attributes:
        values: float64 [Q], each query's measurement.
        wrong_tokens: int64 [Q], counted tokens that are not the greedy choice; 0: the greedy answer is the response.
        losses: float64 [steps], the loss of each step that was taken.
    """

    values: np.ndarray
    wrong_tokens: np.ndarray
    losses: np.ndarray


class Trainer:
    """Trains members one after the other from one base model, which is loaded once and left as it was.

    Args:
        model: the base, changed while a member trains and restored afterwards.
        train, queries: examples.
        recipe: how the run was made; a subset's seed takes the place of its own.
        pad_id: a token id to pad with.
    """

    def __init__(self, model: PreTrainedModel, train: Examples, queries: Examples, recipe: Recipe, pad_id: int = 0,
                 measurement: Measurement | None = None, layout: Layout | None = None) -> None:
        self.model, self.train, self.queries, self.recipe, self.pad_id = model, train, queries, recipe, pad_id
        self.measurement, self.layout = measurement or LogProb(), layout or Layout()
        self._prefix: Prefix | tuple[()] | None = None  # (): looked at, and there is nothing to share
        self._base = {name: p.detach().clone() for name, p in model.named_parameters()} if recipe.tune == "full" else {}

    def run(self, subset: Subset) -> tuple[Outcome, dict[str, Tensor]]:
        """Train and measure; also the trained weights, by name.

        Raises:
            WhenceError: a subset of another number of rows; a loss that is not finite.
        """
        if len(subset.kept) != len(self.train):
            raise WhenceError(f"subset {subset.name!r}: is of {len(subset.kept)} rows, and there are "
                              f"{len(self.train)} training rows")
        recipe = self.recipe if subset.seed is None else replace(self.recipe, seed=subset.seed)
        model = prepare(self.model, recipe)
        try:
            losses = self._steps(model, recipe, subset)
            measured = sweep(model, self.queries, measurement=self.measurement, pad_id=self.pad_id,
                             layout=self.layout, what=f"queries under {subset.name}")
            weights = {name: weight.detach().cpu().clone() for name, weight in trainable(model).items()}
        finally:
            self._restore(model)
        return Outcome(measured.values, measured.wrong_tokens, np.array(losses)), weights

    def foretell(self, subset: Subset, seconds: float) -> float:
        """Seconds that training a member would take, from as many of its first steps as fit `seconds` (two at least).

        The first step is not counted: it allocates and compiles.
        """
        recipe = self.recipe if subset.seed is None else replace(self.recipe, seed=subset.seed)
        model = prepare(self.model, recipe)
        try:
            training, times = Training(model, self.train, recipe, self.pad_id), list[float]()
            steps = [replace(step, rows=rows) for step in plan_steps(len(self.train), recipe)
                     if len(rows := step.rows[subset.kept[step.rows]])]
            with training_mode(model), self._shared(model) as give:
                for step in steps:
                    start = time.perf_counter()
                    give(step.rows)
                    training.advance(step)
                    times.append(time.perf_counter() - start)
                    if len(times) > 2 and sum(times) > seconds:
                        break
        finally:
            self._restore(model)
        return float(np.mean(times[1:] or times)) * len(steps)

    def measure(self, weights: Mapping[str, Tensor], subset: Subset, queries: Examples) -> Outcome:
        """Measure other queries under a member's stored weights.

        Raises:
            WhenceError: weights of another model.
        """
        model = prepare(self.model, self.recipe)
        try:
            _load(model, weights, subset.name)
            measured = sweep(model, queries, measurement=self.measurement, pad_id=self.pad_id, layout=self.layout,
                             what=f"queries under {subset.name}")
        finally:
            self._restore(model)
        return Outcome(measured.values, measured.wrong_tokens, np.zeros(0))

    def _steps(self, model: PreTrainedModel | PeftModel, recipe: Recipe, subset: Subset) -> list[float]:
        training = Training(model, self.train, recipe, self.pad_id)
        losses: list[float] = []
        with training_mode(model), self._shared(model) as give:
            for step in plan_steps(len(self.train), recipe):
                rows = step.rows[subset.kept[step.rows]]
                if len(rows):
                    give(rows)
                    losses.append(training.advance(replace(step, rows=rows))["loss"])
        return losses

    def _shared(self, model: nn.Module) -> AbstractContextManager[Callable[[np.ndarray], object]]:
        """The layers below the first adapter, run once for all members; where there are none, nothing."""
        if self._prefix is None:
            first = first_trained(model)
            usable = first > 0 and fits(self.train, model)
            self._prefix = Prefix(model, first, self.train, self.pad_id, self.recipe.dtype == "bf16") if usable else ()
        return self._prefix.used() if isinstance(self._prefix, Prefix) else nullcontext(lambda rows: None)

    def _restore(self, model: PreTrainedModel | PeftModel) -> None:
        """The base as it was: adapters off, or its weights copied back."""
        if isinstance(model, PeftModel):
            self.model = model.unload()  # type: ignore[assignment]
            if hasattr(self.model, "peft_config"):
                del self.model.peft_config
            self.model.requires_grad_(True)
            return
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(self._base[name])
                parameter.grad = None


def _load(model: Any, weights: Mapping[str, Tensor], what: str) -> None:
    own = trainable(model)
    if set(own) != set(weights):
        raise WhenceError(f"{what}: its stored weights are those of another model or recipe "
                          f"({len(set(own) ^ set(weights))} names differ)")
    with torch.no_grad():
        for name, value in weights.items():
            own[name].copy_(value)
