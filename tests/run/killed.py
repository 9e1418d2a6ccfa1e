"""A process of its own that is killed at once where it says so."""

from __future__ import annotations

import signal
import subprocess
import sys

SAYS = "in the middle"


def killed_in_the_middle(driver: str, *words: object) -> None:
    """Run a driver until it prints `SAYS`, and kill it."""
    process = subprocess.Popen([sys.executable, "-c", driver, *map(str, words)], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stderr is not None
    line = process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL and line == f"{SAYS}\n", line + process.stderr.read()
    process.stdout.close()
    process.stderr.close()
