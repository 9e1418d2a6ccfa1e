"""`whence env`: versions, devices, threads and caches; what a bug report needs."""

from __future__ import annotations

import json
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import psutil
import torch
import typer
from huggingface_hub.constants import HF_HUB_CACHE, HF_HUB_OFFLINE
from rich.console import Console

from whence.models.load import pick_device

PACKAGES = ("whence", "torch", "transformers", "peft", "datasets", "tokenizers", "safetensors", "numpy", "scipy",
            "scikit-learn", "bm25s", "pyarrow")


def env(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """Print versions, devices, threads and caches."""
    found = environment()
    if as_json:
        print(json.dumps(found, indent=1))
        return
    console = Console(highlight=False)
    for heading, facts in found.items():
        console.print(f"[bold]{heading}[/bold]")
        for name, value in facts.items():
            console.print(f"  {name:<16} {value}", markup=False, soft_wrap=True)


def environment() -> dict[str, dict[str, Any]]:
    """Facts by heading, JSON-able."""
    memory = psutil.virtual_memory()
    devices: dict[str, Any] = {"chosen": str(pick_device())}
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        devices[f"cuda:{index}"] = f"{properties.name}, {properties.total_memory / 2**30:.1f} GiB"
    devices["mps"] = torch.backends.mps.is_available()
    return {
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "machine": {"system": platform.platform(), "cores": psutil.cpu_count(),
                    "torch_threads": torch.get_num_threads(), "memory_gib": round(memory.total / 2**30, 1),
                    "free_gib": round(memory.available / 2**30, 1)},
        "devices": devices,
        "caches": {"hub": HF_HUB_CACHE, "hub_offline": HF_HUB_OFFLINE,
                   "progress_bars": os.environ.get("WHENCE_PROGRESS") != "0"},
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
