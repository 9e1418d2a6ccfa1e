"""`whence blocks`: the linear maps of a model that can be attributed, and those that are by default."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console

from whence.models.blocks import Block, describe_blocks, select_blocks
from whence.models.load import load_model


def blocks(
    model: Annotated[str, typer.Argument(help="Folder or hub name of a model, or an adapter folder.")],
    adapter: Annotated[str | None, typer.Option(help="Folder or hub name of a PEFT adapter.")] = None,
    pattern: Annotated[list[str] | None, typer.Option(
        help="Glob on module names, or a component such as q_proj; can be repeated.")] = None,
    kind: Annotated[list[str] | None, typer.Option(
        help="linear, conv1d, lora_a or lora_b; can be repeated. Default: LoRA maps, if any.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the blocks of MODEL that would be attributed with these patterns and kinds."""
    loaded = load_model(model, adapter, device="cpu")
    chosen = select_blocks(loaded.model, pattern or None, kind or None)
    if as_json:
        print(json.dumps({"base_hash": loaded.base_hash, "adapter_hash": loaded.adapter_hash,
                          "parameters": sum(block.parameters for block in chosen),
                          "blocks": [_plain(block) for block in chosen]}, indent=1))
    else:
        Console().print(describe_blocks(chosen))


def _plain(block: Block) -> dict[str, object]:
    return {name: value for name, value in vars(block).items() if name != "module"}
