"""`whence trace`: the training examples behind one answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from whence.base.errors import WhenceError
from whence.cli.options import Dtype
from whence.methods.catalogue import DEFAULT
from whence.run.run import Run
from whence.sweep.sweep import Layout


def trace(
    run: Annotated[Path, typer.Argument(help="Run directory that `whence train` left.")],
    prompt: Annotated[str, typer.Option(help="What was asked; without the run's template.")],
    response: Annotated[str, typer.Option(help="The answer to explain.")],
    method: Annotated[str, typer.Option(help="Such as datainf or 'fisher(damping=1.0)'.")] = DEFAULT,
    top: Annotated[int, typer.Option(help="How many proponents and opponents.")] = 10,
    tokens: Annotated[int, typer.Option(help="Show so many of the strongest tokens of each proponent.")] = 0,
    card: Annotated[bool, typer.Option("--card", help="Show the free dials of the trust card too.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write a report of this answer too.")] = None,
    dtype: Dtype = "model",
    base: Annotated[str | None, typer.Option(help="Where the base model is now, if it was moved.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Rank the training rows of RUN by what one more copy of each would do to the log-probability of RESPONSE."""
    if top < 1:
        raise WhenceError(f"--top {top}: expected at least 1")
    if tokens < 0:
        raise WhenceError(f"--tokens {tokens}: expected 0 (none) or more")
    hits = Run.load(run, base=base, layout=Layout(dtype=dtype)).trace(prompt, response, method)
    page = hits.to_html(html) if html else None
    if as_json:
        value = hits.to_json(top, tokens) | {"report": str(page) if page else None}
        print(json.dumps(value | ({"card": hits.card.to_json()} if card else {}), indent=1))
        return
    console = Console()
    said = "is" if hits.greedy_matches else "is not"
    name, _, unit = hits.what.rpartition("_")
    name = name.replace("_", " ")
    console.print(f"{name} of the response: {hits.value:.3f} {unit}; it {said} the model's greedy answer")
    console.print(hits.to_rich(top))
    if tokens:
        console.print(hits.tokens_to_rich(top, tokens))
    if card:
        console.print(hits.card.to_rich())
        console.print(f"{hits.card.verdict}", style="bold", highlight=False)
    if page:
        console.print(f"report: {page}", soft_wrap=True, markup=False)
