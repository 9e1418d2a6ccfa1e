"""Bytes of each file that a run writes: safetensors, from names, types and shapes alone."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence

from whence.models.blocks import Block
from whence.plan.flops import parts_of

SIZES = {"F64": 8, "F32": 4, "I64": 8, "U8": 1}
FACTS_BYTES = 400  # of a solver's facts as JSON, and of those beside the scores
ABOUT_BYTES = 1050  # of about.json and queries.json


def safetensors_bytes(tensors: Mapping[str, tuple[str, Sequence[int]]]) -> int:
    """Size of a file: 8 bytes, a header of JSON padded to 8, and the numbers.

    Args:
        tensors: name -> (type, shape).
    """
    header: dict[str, object] = {}
    start = 0
    for name, (dtype, shape) in sorted(tensors.items(), key=lambda item: (-SIZES[item[1][0]], item[0])):
        end = start + SIZES[dtype] * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
        start = end
    text = len(json.dumps(header, separators=(",", ":")))
    return 8 + -(-text // 8) * 8 + start


def bases_bytes(blocks: Sequence[Block], source: Sequence[int], parts: int, shared: bool, dtype: str) -> int:
    """Bases and uncorrected eigenvalues (`curvature.fit.Situation._bases`)."""
    tensors: dict[str, tuple[str, Sequence[int]]] = {}
    for b, block in enumerate(blocks):
        wide = block.inputs + block.bias
        tensors[f"{b}/eigenvalues"] = dtype, (block.outputs, wide)
        tensors |= {f"{b}/s{i}": (dtype, (n, n)) for i, n in enumerate(parts_of(block.outputs, parts))}
        if shared and source[b] != b:
            tensors[f"{b}/source"] = "I64", ()
        else:
            tensors |= {f"{b}/a{i}": (dtype, (n, n)) for i, n in enumerate(parts_of(wide, parts))}
    return safetensors_bytes(tensors)


def eigenvalues_bytes(blocks: Sequence[Block], dtype: str) -> int:
    """Corrected eigenvalues."""
    return safetensors_bytes({f"{b}/eigenvalues": (dtype, (block.outputs, block.inputs + block.bias))
                              for b, block in enumerate(blocks)})


def products_bytes(blocks: int, queries: int, rows: int) -> int:
    """Products of every query and row by block, in float64, with the solver's facts."""
    return safetensors_bytes({"by_block": ("F64", (blocks, queries, rows)), "facts": ("U8", (FACTS_BYTES,))})


def grams_bytes(blocks: int, rows: int) -> int:
    """K of every block."""
    return blocks * safetensors_bytes({"train": ("F64", (rows, rows))})


def cross_bytes(blocks: int, queries: int, rows: int) -> int:
    """K_v and |v|^2 of every block."""
    return blocks * safetensors_bytes({"cross": ("F64", (queries, rows)), "query_norms": ("F64", (queries,))})


def hidden_bytes(queries: int, rows: int, width: int) -> int:
    """Representations of queries and rows."""
    return safetensors_bytes({"queries": ("F64", (queries, width)), "train": ("F64", (rows, width))})


def measured_bytes(queries: int) -> int:
    """Values and greedy matches of the queries."""
    return safetensors_bytes({"values": ("F64", (queries,)), "wrong_tokens": ("I64", (queries,))})


def scores_bytes(queries: int, rows: int) -> int:
    """The scores, and the JSON beside them and beside the queries."""
    return safetensors_bytes({"values": ("F64", (queries, rows))}) + FACTS_BYTES + ABOUT_BYTES
