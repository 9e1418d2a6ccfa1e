"""How much memory the process holds, and how much more while something runs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psutil
import torch

EVERY_SECONDS = 0.002


@dataclass
class Peak:
    """Bytes that the process held at its highest."""

    bytes: int = 0


def resident_bytes(device: torch.device) -> int:
    """Bytes this process holds where the model is."""
    if device.type == "cuda":
        return int(torch.cuda.memory_allocated(device))
    return int(psutil.Process().memory_info().rss)


@contextmanager
def peak_resident(device: torch.device) -> Iterator[Peak]:
    """Watch resident memory while open: by the allocator on an accelerator, by looking again and again elsewhere."""
    peak = Peak(resident_bytes(device))
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        yield peak
        peak.bytes = int(torch.cuda.max_memory_allocated(device))
        return
    process, done = psutil.Process(), threading.Event()

    def watch() -> None:
        while not done.wait(EVERY_SECONDS):
            peak.bytes = max(peak.bytes, process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()
        peak.bytes = max(peak.bytes, int(process.memory_info().rss))
