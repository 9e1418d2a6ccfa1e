"""Progress bars on a terminal, a line now and then in a log, silence in the tests."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

T = TypeVar("T")
LOG_EVERY_SECONDS = 10.0


def track(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """Iterate over `items` and show how far it is on standard error.

    A live bar where standard error is a terminal; otherwise one line every ten seconds, so that a log
    stays readable. `WHENCE_PROGRESS=0` silences both.
    """
    if os.environ.get("WHENCE_PROGRESS") == "0":
        yield from items
    elif sys.stderr.isatty():
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                   TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task(what, total=total)
            for item in items:
                yield item
                progress.advance(task)
    else:
        last = start = time.monotonic()
        for done, item in enumerate(items, start=1):
            yield item
            now = time.monotonic()
            if now - last >= LOG_EVERY_SECONDS or (done == total and now - start >= LOG_EVERY_SECONDS):
                print(f"{what}: {done}/{total}, {now - start:.0f} s", file=sys.stderr, flush=True)
                last = now
