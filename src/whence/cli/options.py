"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

Dtype = Annotated[Literal["model", "bf16"], typer.Option(
    help="Of the forward pass: that of the weights, or bf16, checked against float32 on the first rows.")]
