"""Fixtures used across the tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

os.environ.setdefault("WHENCE_PROGRESS", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # bits are compared: on the CPU, wherever the tests run
torch.set_num_threads(1)  # the models are tiny, and tests share the machine


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data that is not part of the project; its tests skip where it is absent."""
    folder = Path(os.environ.get("WHENCE_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder} (set WHENCE_DATA)")
    return folder
