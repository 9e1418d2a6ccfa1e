"""`whence train`: fine-tune a model and record what attribution needs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from whence.data.rows import parse_columns
from whence.train.fine_tune import fine_tune
from whence.train.recipe import Recipe

DEFAULT = Recipe()
LORA_ONLY = "LoRA only."


def train(
    model: Annotated[str, typer.Argument(help="Folder or hub name of the model to start from.")],
    data: Annotated[str, typer.Argument(help="JSONL, JSON, Parquet or saved dataset (FOLDER[:SPLIT]).")],
    out: Annotated[Path, typer.Option(help="The run directory; one that holds this very run is resumed.")],
    columns: Annotated[str | None, typer.Option(help="OURS=THEIRS,..., as in prompt=question,id=name.")
                       ] = None,
    template: Annotated[str | None, typer.Option(help="Text around {prompt} and {completion}.")] = None,
    max_length: Annotated[int | None, typer.Option(help="Tokens beyond this many are cut off.")] = None,
    tune: Annotated[Literal["lora", "full"], typer.Option(help="Adapters on linear layers, or every weight.")
                    ] = "lora",
    rank: Annotated[int, typer.Option(help=LORA_ONLY)] = DEFAULT.rank,
    alpha: Annotated[int, typer.Option(help=f"{LORA_ONLY} The update is alpha/rank * B A.")] = DEFAULT.alpha,
    dropout: Annotated[float, typer.Option(help=LORA_ONLY)] = DEFAULT.dropout,
    targets: Annotated[list[str] | None, typer.Option(
        help=f"{LORA_ONLY} Glob on names of linear layers, or a last part such as q_proj; can be repeated. "
             "Default: all but the output head.")] = None,
    epochs: Annotated[int | None, typer.Option(help=f"Passes over the data ({DEFAULT.epochs}).")] = None,
    max_steps: Annotated[int | None, typer.Option(help="Optimizer steps, instead of epochs.")] = None,
    batch_size: Annotated[int, typer.Option(help="Examples a step.")] = DEFAULT.batch_size,
    lr: Annotated[float, typer.Option(help="AdamW's learning rate at its highest.")] = DEFAULT.learning_rate,
    schedule: Annotated[Literal["linear", "cosine", "constant"], typer.Option(
        help="How the learning rate falls.")] = "linear",
    warmup_ratio: Annotated[float, typer.Option(help="Share of the steps over which it first rises.")
                            ] = DEFAULT.warmup_ratio,
    weight_decay: Annotated[float, typer.Option(help="On matrices; not on biases and norms.")
                            ] = DEFAULT.weight_decay,
    clip_norm: Annotated[float, typer.Option(help="The gradient's largest norm; 0 does not clip.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of data order, LoRA's start and dropout.")] = DEFAULT.seed,
    reduction: Annotated[Literal["token", "example"], typer.Option(
        help="A batch's loss: mean over its response tokens, or over its examples of their sums.")] = "token",
    checkpoints: Annotated[int, typer.Option(help="How many to keep, evenly spaced, the last always.")
                           ] = DEFAULT.checkpoints,
    save_every: Annotated[int | None, typer.Option(help="Steps between saves to resume from (an epoch).")
                          ] = None,
    dtype: Annotated[Literal["fp32", "bf16"], typer.Option(help="Of the forward pass; weights stay float32.")
                     ] = "fp32",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Fine-tune MODEL on DATA and leave a run in OUT; killed and typed again, it goes on where it was."""
    recipe = Recipe(
        tune=tune, rank=rank, alpha=alpha, dropout=dropout, targets=tuple(targets or DEFAULT.targets),
        epochs=epochs, max_steps=max_steps,
        batch_size=batch_size, learning_rate=lr, schedule=schedule, warmup_ratio=warmup_ratio,
        weight_decay=weight_decay, clip_norm=clip_norm or None, seed=seed, reduction=reduction,
        checkpoints=checkpoints, dtype=dtype)
    result = fine_tune(model, data, out, recipe, columns=parse_columns(columns) if columns else None,
                       template=template, max_length=max_length, save_every=save_every,
                       say=lambda line: print(line, file=sys.stderr if as_json else sys.stdout, flush=True))
    if as_json:
        print(json.dumps({"run": str(out), "already_trained": result.already_trained,
                          "resumed_from": result.resumed_from, "record": result.record}, indent=1))
        return
    steps, final = result.record["counts"]["steps"], result.record["final"]
    if result.already_trained:
        print(f"{out}: already trained ({steps} steps); nothing to do")
        return
    since = f", resumed at step {result.resumed_from}," if result.resumed_from is not None else ""
    seconds = result.record["timings"]["training_seconds"]
    print(f"trained {steps} steps{since} in {seconds:.1f} s; the last epoch's loss is "
          f"{final['last_epoch_loss_per_token']:.4f} nats a response token; run: {out}")
