"""A pass that was killed goes on where it was: the state of its sinks, written down from time to time.

Sums are taken in the order of the batches, and the state is stored in the numbers it is kept in, so a resumed
pass gives the same bits as one that was never stopped (on the same machine, with as many threads).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from whence.base.files import atomic_file


@runtime_checkable
class Resumable(Protocol):
    """A sink whose whole state is tensors."""

    def state(self) -> dict[str, Tensor]:
        """The tensors themselves, by name."""
        ...

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take over what `state` gave in an earlier process."""
        ...


class Keeper:
    """Keeps the state of one pass in one file.

    Args:
        path: a file that belongs to this pass alone: its name must change with whatever changes the pass (model,
            rows, blocks, layout, sinks), which content hashes see to.
        seconds: between two writes.
    """

    def __init__(self, path: Path, seconds: float = 60.0) -> None:
        self.path, self.seconds = path, seconds
        self._last = time.monotonic()

    def keep(self, batches: int, sinks: Sequence[object], values: list[Tensor], wrong: list[Tensor]) -> None:
        """Write the state after `batches` batches, if it is time."""
        if time.monotonic() - self._last < self.seconds:
            return
        state = {f"{place}/{name}": tensor for place, sink in enumerate(sinks)
                 for name, tensor in _resumable(sink).state().items()}
        state |= {"batches": torch.tensor(batches), "values": torch.cat(values), "wrong": torch.cat(wrong)}
        with atomic_file(self.path) as part:
            save_file({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}, part)
        self._last = time.monotonic()

    def restore(self, sinks: Sequence[object], values: list[Tensor], wrong: list[Tensor]) -> int:
        """Put an earlier process's state into the sinks and lists; returns how many batches are done."""
        if not self.path.exists():
            return 0
        stored = load_file(self.path)
        for place, sink in enumerate(sinks):
            mark = f"{place}/"
            _resumable(sink).restore({name.removeprefix(mark): tensor for name, tensor in stored.items()
                                      if name.startswith(mark)})
        values.append(stored["values"])
        wrong.append(stored["wrong"])
        return int(stored["batches"])

    def forget(self) -> None:
        """The pass is over and its result is elsewhere."""
        self.path.unlink(missing_ok=True)


def _resumable(sink: object) -> Resumable:
    if not isinstance(sink, Resumable):
        raise TypeError(f"{type(sink).__name__} has no state() and restore(), so its pass cannot be resumed")
    return sink
