"""Options that several commands have."""

from __future__ import annotations

import re
from typing import Annotated, Literal

import typer

from whence.base.errors import WhenceError

SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600}

Dtype = Annotated[Literal["model", "bf16"], typer.Option(
    help="Of the forward pass: that of the weights, or bf16, checked against float32 on the first rows.")]


def seconds_of(written: str) -> float:
    """`90`, `90s`, `10m`, `1.5h` to seconds.

    Raises:
        WhenceError: anything else.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smh]?)\s*", written)
    if not found or not float(found[1]):
        raise WhenceError(f"--budget {written!r}: expected a time such as 90s, 10m or 1.5h")
    return float(found[1]) * SECONDS[found[2]]
