"""Content hashes: what a stored result was made from, so that a mismatch is refused and not guessed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


def hash_json(value: Any) -> str:
    """SHA-256 (first 16 hex digits) of a JSON-able value; the order of mapping keys does not matter."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def hash_tensors(named: Iterable[tuple[str, Tensor]]) -> str:
    """SHA-256 (first 16 hex digits) of names, dtypes, shapes and bytes; the order does not matter."""
    digest = hashlib.sha256()
    for name, tensor in sorted(named, key=lambda pair: pair[0]):
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
