"""`whence plan`: what a method would cost here, phase by phase, before it is run."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console

from whence.base.errors import WhenceError
from whence.data.encode import describe, load_examples
from whence.data.examples import Examples
from whence.data.rows import parse_columns
from whence.methods.catalogue import DEFAULT, parse_calls
from whence.models.blocks import select_blocks
from whence.models.load import load_model
from whence.plan.make import make_plan
from whence.run.run import Run
from whence.train.record import RECORD_NAME
from whence.train.training import check_fit

STAND_INS = 256  # rows of random tokens that stand for rows that are only counted
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12,
         "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def plan(
    model: Annotated[str, typer.Argument(help="Run directory, or folder or hub name of a model or adapter.")],
    queries: Annotated[str, typer.Option(help="Their file, or how many there are.")],
    train: Annotated[str | None, typer.Option(help="Training rows: their file, or how many [the run's].")] = None,
    method: Annotated[str, typer.Option(help="Such as ekfac or 'ekfac(rank=32)'.")] = DEFAULT,
    memory: Annotated[str | None, typer.Option(help="What the process may hold, as 8GiB [what is free].")] = None,
    length: Annotated[int | None, typer.Option(help="Tokens of rows that are only counted [the context].")] = None,
    columns: Annotated[str | None, typer.Option(help="OURS=THEIRS,..., as in prompt=question.")] = None,
    pattern: Annotated[list[str] | None, typer.Option(help="Which blocks; can be repeated.")] = None,
    seconds: Annotated[float, typer.Option(help="Of calibration, about.")] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """FLOP, time, peak memory and disk of METHOD, with batches and passes that fit; refuses what cannot."""
    calls = parse_calls([method])
    if len(calls) != 1:
        raise WhenceError(f"--method {method}: {len(calls)} methods; expected one")
    limit = parse_bytes(memory) if memory else None
    mapped = parse_columns(columns) if columns else None
    run = Run.load(model, blocks=pattern) if (Path(model) / RECORD_NAME).exists() else None
    if run is not None:
        network, tokenizer, encoding = run.model, run.tokenizer, run.encoding
    else:
        loaded = load_model(model)
        network, tokenizer, encoding = loaded.model, loaded.tokenizer, {}
    how = {name: value for name, value in encoding.items() if name != "chat"}

    def rows(given: str | None, what: str) -> tuple[Examples, int]:
        if given is None and run is None:
            raise WhenceError(f"--{what}: {model} is a model and no run, so its training rows are not known; give "
                              f"their file, or how many there are")
        if given is not None and not re.fullmatch(r"[\d_,]+", given):
            examples = load_examples(given, tokenizer, columns=mapped, **how)
            print(f"{what}: {describe(examples)}", file=sys.stderr)
            check_fit(network, examples)
            return examples, len(examples)
        count = int(given.replace(",", "")) if given else len(run.train) if run is not None else 0
        if count < 1:
            raise WhenceError(f"--{what} {given}: expected at least 1")
        if run is None:
            return random_rows(len(tokenizer), min(count, STAND_INS), length or context(network)), count
        picked = np.linspace(0, len(run.train) - 1, min(count, len(run.train))).round().astype(int)
        return run.train.select(picked), count

    train_rows, n = rows(train, "train")
    query_rows, asked = rows(queries, "queries")
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    blocks = run.subject.blocks if run is not None else select_blocks(network, pattern)
    found = make_plan(network, train_rows, query_rows, calls[0], blocks, pad_id=pad, rows=n, asked=asked, memory=limit,
                      budget=seconds)
    if as_json:
        print(json.dumps(found.to_json(), indent=1))
    else:
        Console().print(found.to_rich())


def parse_bytes(text: str) -> int:
    """`8GiB`, `500 MB`, `2e9` to bytes.

    Raises:
        WhenceError: anything else.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?(?:e\d+)?)\s*([kmgt]?i?)b?\s*", text, re.IGNORECASE)
    if not match or match[2].lower() not in UNITS:
        raise WhenceError(f"--memory {text}: expected a number of bytes, such as 8GiB or 500MB")
    return int(float(match[1]) * UNITS[match[2].lower()])


def context(model: object) -> int:
    """The longest input of a model, or 512 where that is more or not known."""
    return min(512, int(getattr(getattr(model, "config", None), "max_position_embeddings", 512)))


def random_rows(vocabulary: int, count: int, length: int) -> Examples:
    """Rows of random tokens, each of them counting but the first."""
    if length < 2:
        raise WhenceError(f"--length {length}: expected at least 2")
    generator = np.random.default_rng(0)
    return Examples(ids=tuple(map(str, range(count))), groups=(None,) * count, prompts=("",) * count,
                    responses=("",) * count, truncated=(False,) * count,
                    tokens=tuple(generator.integers(0, vocabulary, size=length) for _ in range(count)),
                    is_response=(np.arange(length) > 0,) * count)
