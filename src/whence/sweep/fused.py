"""The same functions in fewer passes over memory: activations that transformers writes out as a chain of operations.

GPT-2's GELU, `x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`, is eight elementwise operations forward and more
backward, each through memory: a quarter of a sweep of a small model on a CPU. torch has it as one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from transformers import activations

# class of transformers -> the same function in one operation, gradients included (tests/sweep/test_fused.py)
FUSED = {activations.NewGELUActivation: nn.GELU(approximate="tanh"),
         activations.FastGELUActivation: nn.GELU(approximate="tanh")}


@contextmanager
def fused(model: nn.Module) -> Iterator[None]:
    """While open, known chains are one operation each; every module is put back afterwards."""
    replaced = [(parent, name, child) for parent in model.modules() for name, child in parent.named_children()
                if type(child) in FUSED]
    try:
        for parent, name, child in replaced:
            setattr(parent, name, FUSED[type(child)])
        yield
    finally:
        for parent, name, child in replaced:
            setattr(parent, name, child)
