"""`Training`: a model, its optimizer and its examples, advanced one planned step at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from whence.base.errors import WhenceError
from whence.data.batch import collate
from whence.data.examples import Examples
from whence.models.build import seeded
from whence.train.adapter import trainable
from whence.train.objective import objective
from whence.train.plan import Step, stream_seed
from whence.train.recipe import Recipe


class Training:
    """The state of a fine-tune in memory: `model` and `optimizer` after the steps taken so far.

    Step k depends on the state before it, the recipe and k, on nothing else: not on torch's random state and
    not on how the steps before it were run. That is what resuming and replaying stand on.
    """

    def __init__(self, model: PreTrainedModel | PeftModel, examples: Examples, recipe: Recipe,
                 pad_id: int = 0) -> None:
        """`model` comes from `whence.train.adapter.prepare`; what is in padding never reaches the loss."""
        check_fit(model, examples)
        self.model, self.examples, self.recipe, self.pad_id = model, examples, recipe, pad_id
        self.device = model.device
        weights = trainable(model).values()
        groups = [{"params": [w for w in weights if w.ndim >= 2], "weight_decay": recipe.weight_decay},
                  {"params": [w for w in weights if w.ndim < 2], "weight_decay": 0.0}]
        beta1, beta2 = recipe.betas
        self.optimizer = torch.optim.AdamW([group for group in groups if group["params"]],
                                           lr=recipe.learning_rate, betas=(beta1, beta2), eps=recipe.eps)

    def advance(self, step: Step) -> dict[str, Any]:
        """Take one step; gives its log line, `grad_norm` before clipping (see `whence.train.log`).

        Raises:
            WhenceError: the loss or the gradient is not finite; the weights are then as before the step.
        """
        recipe = self.recipe
        batch = collate(self.examples, step.rows, self.pad_id).to(self.device)
        self.optimizer.zero_grad(set_to_none=True)
        with seeded(stream_seed(recipe.seed, step.step)):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=recipe.dtype == "bf16"):
                loss, tokens = objective(self.model, batch, recipe.reduction)
            loss.backward()
        weights = [w for group in self.optimizer.param_groups for w in group["params"]]
        norm = torch.nn.utils.get_total_norm([w.grad for w in weights if w.grad is not None])
        line = {"step": step.step, "epoch": step.epoch, "rows": step.rows.tolist(), "lr": step.learning_rate,
                "loss": loss.item(), "grad_norm": norm.item(), "tokens": tokens}
        if not (math.isfinite(line["loss"]) and math.isfinite(line["grad_norm"])):
            names = ", ".join(repr(self.examples.ids[row]) for row in step.rows)
            raise WhenceError(f"step {step.step}: the loss is {line['loss']} and the gradient's norm "
                              f"{line['grad_norm']}, at learning rate {step.learning_rate:g}, on the rows "
                              f"with ids {names}; expected finite numbers: lower the learning rate, or look "
                              "at these rows and at the model's weights. Nothing of this step is stored")
        if recipe.clip_norm is not None:
            torch.nn.utils.clip_grads_with_norm_(weights, recipe.clip_norm, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = step.learning_rate
        self.optimizer.step()
        return line


def check_fit(model: PreTrainedModel | PeftModel, examples: Examples) -> None:
    """Refuse examples that `model` cannot be trained on.

    Raises:
        WhenceError: no examples, one without a response, a token outside the vocabulary, or one longer than
            the positions the model has.
    """
    if len(examples) == 0:
        raise WhenceError("there are no examples to train on; expected at least one")
    vocabulary = model.get_input_embeddings().weight.shape[0]  # type: ignore[index]
    positions = getattr(model.config, "max_position_embeddings", None) or math.inf
    for row, tokens in enumerate(examples.tokens):
        name = f"row {row} (id {examples.ids[row]!r})"
        if not examples.is_response[row].any():
            raise WhenceError(f"{name}: no token of it counts in the loss; expected a response that is not "
                              "cut off whole (raise the maximum length, or take the row out)")
        if tokens.max() >= vocabulary or tokens.min() < 0:
            raise WhenceError(f"{name}: token {tokens.max()} is outside the model's vocabulary of "
                              f"{vocabulary}; expected the model's own tokenizer")
        if len(tokens) > positions:
            raise WhenceError(f"{name}: {len(tokens)} tokens, but the model has {positions} positions; "
                              f"set the maximum length to {positions} or less")


@contextmanager
def training_mode(model: PreTrainedModel | PeftModel) -> Iterator[None]:
    """Dropout on and the key-value cache off inside; eval mode and the cache's setting as before after."""
    config = model.config
    cache = getattr(config, "use_cache", None)
    model.train()
    config.use_cache = False
    try:
        yield
    finally:
        config.use_cache = cache
        model.eval()
