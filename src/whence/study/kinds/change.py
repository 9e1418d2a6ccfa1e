"""Is a change of parameters a change of behaviour? Both, at every checkpoint of a fine-tune.

    norm             |dW| over all linear maps (LoRA's scale included), over |W|
    published norm   mean over LoRA's modules of |B A|, without its scale: what the published code measures
    cosine           of dW with that of another fine-tune at its end
    loss             nats a token, of the queries of each group
    KL               KL(base || tuned) at the answers' tokens, nats a token
    marker rate      share of greedy answers that begin with the marker, of the queries of each group
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from whence.data.batch import collate, plan_batches
from whence.data.examples import Examples
from whence.measure.greedy import greedy_answers
from whence.models.load import load_model
from whence.study.cell import Cell, Row, kind
from whence.study.cost import Work
from whence.study.encoding import Encoding
from whence.study.kinds.fine_tune import FineTuned, load_fine_tune
from whence.study.kinds.fine_tune import work as training_work
from whence.study.rows import task_rows
from whence.sweep.head import counted_logits
from whence.sweep.sweep import sweep
from whence.train.checkpoint import checkpoint_folders, checkpoint_step, load_checkpoint

ANSWER_PASSES = 20  # tokens generated greedily, about


def work(cell: Cell) -> Work:
    """Greedy answers at each checkpoint."""
    once = training_work(cell.needs[0])
    checkpoints = cell.needs[0].options["recipe"].get("checkpoints", 4)
    return Work(checkpoints * ANSWER_PASSES / 3, once.layers, 1024, once.weights, 1.0)


@kind("change", work)
def change(options: Mapping[str, Any], folder: Path, needs: Sequence[Path]) -> list[Row]:
    """`needs`: the fine-tune, and one whose direction is compared with."""
    tuned = load_fine_tune(needs[0], options["task"], options["seed"])
    other = load_fine_tune(needs[1], options["other"], options["seed"])
    encoding = Encoding.of(options["encoding"])
    probes = task_rows(options["probes"], options["seed"])
    asked = encoding.examples(probes.queries, tuned.tokenizer, answer_only=True)
    base = load_model(tuned.base, device="cpu").model
    start = weights(base)
    theirs = difference(other, start)
    plain = log_probs(base, asked)
    rows: list[Row] = []
    for place in checkpoint_folders(needs[0] / "run"):
        load_checkpoint(tuned.model, place)
        ours = difference(tuned, start)
        found = {"norm": norm(ours) / norm(start), "cosine": cosine(ours, theirs),
                 "KL": float((plain.exp() * (plain - log_probs(tuned.model, asked))).sum(dim=1).mean())}
        if (published := published_norm(tuned.model)) is not None:
            found["published norm"] = published
        measured = sweep(tuned.model, asked, pad_id=tuned.tokenizer.pad_token_id or 0)
        answers = greedy_answers(tuned.model, tuned.tokenizer, asked)
        for group in sorted(set(probes.query_groups)):
            at = np.array([g == group for g in probes.query_groups])
            found[f"loss, {group}"] = -float(measured.values[at].sum() / asked.response_lengths[at].sum())
            marked = [answers[q].strip().startswith(options["marker"]) for q in np.flatnonzero(at)]
            found[f"marker rate, {group}"] = float(np.mean(marked))
        rows += [{"step": checkpoint_step(place), "metric": name, "value": float(value)}
                 for name, value in found.items()]
    return rows


def weights(model: nn.Module) -> dict[str, Tensor]:
    """Every matrix of the model, by name."""
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.ndim == 2}


def difference(tuned: FineTuned, start: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """dW of every matrix that the fine-tune moved."""
    found = {}
    lora = {name: layer for name, layer in tuned.model.named_modules() if isinstance(layer, LoraLayer)}
    for name, layer in lora.items():
        key = f"{name.removeprefix('base_model.model.')}.weight"
        found[key] = layer.get_delta_weight("default").detach()  # type: ignore[attr-defined]
    if not lora:
        found = {name: p.detach() - start[name] for name, p in tuned.model.named_parameters() if name in start}
    return found


def published_norm(model: nn.Module) -> float | None:
    """Mean over the adapted modules of `|B A|_F`; None without adapters."""
    factors: list[Any] = [(layer.lora_B["default"], layer.lora_A["default"]) for layer in model.modules()
                          if isinstance(layer, LoraLayer)]
    sizes = [float((B.weight @ A.weight).norm()) for B, A in factors]
    return float(np.mean(sizes)) if sizes else None


def norm(parts: Mapping[str, Tensor]) -> float:
    """Of all parts together."""
    return float(sum(part.double().square().sum() for part in parts.values())) ** 0.5


def cosine(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> float:
    """Of the matrices that both moved."""
    inner = float(sum((a[name].double() * b[name].double()).sum() for name in a if name in b))
    size = norm(a) * norm(b)
    return inner / size if size else 0.0


def log_probs(model: nn.Module, examples: Examples) -> Tensor:
    """[counted tokens, vocabulary], batch by batch in a fixed order."""
    with torch.inference_mode():
        return torch.cat([counted_logits(model, collate(examples, rows, 0)).log_softmax(dim=-1)
                          for rows in plan_batches(examples)])
