"""Where fitted factors are kept between calls: a folder of safetensors, or memory."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

from torch import Tensor

Tensors = dict[str, Tensor]


@runtime_checkable
class Store(Protocol):
    """Named bundles of tensors. Names say what a bundle holds; the place it is in says of which model and data."""

    def get(self, name: str) -> Tensors | None:
        """The bundle, or None."""
        ...

    def put(self, name: str, tensors: Tensors) -> None:
        """Keep a bundle, whole or not at all."""
        ...

    def path(self, name: str) -> Path | None:
        """A file of the store's own for a pass that may be killed, or None where nothing outlives the process."""
        ...


class MemoryStore:
    """A store that lasts as long as the process."""

    def __init__(self) -> None:
        self._bundles: dict[str, Tensors] = {}

    def get(self, name: str) -> Tensors | None:
        """The bundle, or None."""
        return self._bundles.get(name)

    def put(self, name: str, tensors: Tensors) -> None:
        """Keep a bundle."""
        self._bundles[name] = tensors

    def path(self, name: str) -> Path | None:
        """Nothing outlives the process."""
        return None
