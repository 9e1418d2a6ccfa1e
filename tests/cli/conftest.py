"""Tiny runs (see `tests.run.fixtures`) and a shell to type at."""

from __future__ import annotations

import pytest

from tests.cli.typed import Shell
from tests.run.fixtures import base_folder, copy_run, full_folder, in_memory, lora_folder, other_base, queries

__all__ = ["base_folder", "copy_run", "full_folder", "in_memory", "lora_folder", "other_base", "queries", "shell"]


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    """Types commands."""
    return Shell(monkeypatch, capsys)
