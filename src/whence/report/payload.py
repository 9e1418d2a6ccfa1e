"""What the page's script reads: the shown hits of every query under every method, packed to fit a budget.

Arrays travel as base64: integers of few bits each, most significant bit first, or little-endian words. A
query has U shown training rows (the union of all lists) of N, and with `w(x)` the bits that x takes
    rows    w(N) bits [U]       their index in the training data
    ranks   w(N) bits [M, U]    1 = the highest score; tied rows share their middle rank, rounded down
    lists   w(U) bits [M, 2h]   positions in `rows`: h highest scores, best first; h lowest, lowest first
    scores  float32 [M, 2h]     their scores
    shares  int16 [2h, B]       headline only: block contributions in 1/1000 of their sum of absolute values
    whole   float32 [2h]        headline only: that sum, in the score's unit
The texts of training rows stand once, under `train`, by their index.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from whence.base.errors import WhenceError
from whence.data.examples import Examples
from whence.report.content import ReportContent
from whence.report.wording import base_name, cut, show_fact
from whence.tasks.ranking import Ranking

HITS = (10, 8, 6, 5)
LAST_HITS = (3, 1)
MANY_BLOCKS = 24
SUM_TOLERANCE = 0.01


def dump(value: Any) -> str:
    """Compact JSON that may stand inside `<script>`: no `<` is left that could open or close a tag."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def fit(content: ReportContent, max_bytes: int) -> tuple[str, Shown]:
    """The payload as JSON of at most `max_bytes` UTF-8 bytes, and what it shows.

    First all queries with 10 hits a list, then fewer hits (at least 5), then fewer queries, evenly spaced;
    last, one query with 3 or 1 hits. Raises `WhenceError` when even that is too large.
    """
    packer = _Packer(content)
    smallest = 0
    for plan in _plans(packer, max_bytes):
        text = packer.assemble(plan)
        smallest = len(text.encode("utf-8", "replace"))
        if smallest <= max_bytes:
            return text, plan
    raise WhenceError(f"report: one query with one hit a list takes {smallest:,} bytes and "
                      f"{max(max_bytes, 0):,} are left for it; allow more bytes, or report fewer methods")


@dataclass(frozen=True)
class Shown:
    """Which queries (indices) are in the page, and how many hits a list has."""

    queries: tuple[int, ...]
    hits: int


def _plans(packer: _Packer, max_bytes: int) -> Iterator[Shown]:
    everything = packer.spaced(len(packer.content.queries))
    yield from (Shown(everything, hits) for hits in HITS)
    low, high = 1, len(everything)
    while high - low > 1:  # the largest number of queries that fits; `low` is tried last in any case
        middle = (low + high) // 2
        fits = packer.size(Shown(packer.spaced(middle), HITS[-1])) <= max_bytes
        low, high = (middle, high) if fits else (low, middle)
    yield Shown(packer.spaced(low), HITS[-1])
    yield from (Shown(packer.spaced(1), hits) for hits in LAST_HITS)


class _Packer:
    """Packs queries and rows one by one and keeps the pieces, so that trying a plan is adding up lengths."""

    def __init__(self, content: ReportContent) -> None:
        self.content = content
        self._queries: dict[tuple[int, int], tuple[str, np.ndarray]] = {}
        self._rows: dict[int, str] = {}
        self._contributions: dict[int, np.ndarray] = {}

    def spaced(self, count: int) -> tuple[int, ...]:
        """`count` query indices, evenly spaced, so that sorted data keep all their groups."""
        return tuple(np.linspace(0, len(self.content.queries) - 1, count).round().astype(int).tolist())

    @cached_property
    def head(self) -> dict[str, Any]:
        content = self.content
        family = {label: family for family in content.families for label in family.members}
        methods = [{"label": label, "name": base_name(label), "family": family[label].name,
                    "default": label == family[label].default, "unit": scores.unit,
                    "negatives": bool((scores.values < 0).any()),
                    "facts": [[key, cut(show_fact(value))] for key, value in scores.facts.items()]}
                   for label, scores in content.scores.items()]
        return {"methods": methods, "headline": list(content.scores).index(content.headline),
                "n_train": len(content.train), "n_queries": len(content.queries),
                "blocks": list(self.block_groups), "by_layer": len(content.blocks) > MANY_BLOCKS}

    @cached_property
    def block_groups(self) -> dict[str, list[int]]:
        """Name -> columns: each block by itself, or summed by layer (first number in the name) when many."""
        groups: dict[str, list[int]] = {}
        for column, name in enumerate(self.content.blocks):
            layer = re.search(r"\d+", name)
            by_layer = f"layer {layer.group()}" if layer else name
            groups.setdefault(by_layer if len(self.content.blocks) > MANY_BLOCKS else name, []).append(column)
        return groups

    def assemble(self, plan: Shown) -> str:
        packed = [self._query(q, plan.hits) for q in plan.queries]
        used = sorted({int(row) for _, rows in packed for row in rows})
        head = {**self.head, "hits": min(plan.hits, self._width(plan.hits)), "shown": len(plan.queries)}
        train = ",".join(f'"{row}":{self._row(row)}' for row in used)
        return f'{dump(head)[:-1]},"train":{{{train}}},"queries":[{",".join(text for text, _ in packed)}]}}'

    def size(self, plan: Shown) -> int:
        return len(self.assemble(plan).encode("utf-8", "replace"))

    def _width(self, hits: int) -> int:
        """Hits a list: proponents and opponents never share a row, unless there is only one."""
        return max(1, min(hits, len(self.content.train) // 2))

    @staticmethod
    def _lists(order_MN: np.ndarray, width: int) -> np.ndarray:
        """int64 [M, 2 * width]: training rows from both ends of one order, which has ties as in the data."""
        return np.concatenate([order_MN[:, :width], order_MN[:, ::-1][:, :width]], axis=1)

    def _row(self, row: int) -> str:
        if row not in self._rows:
            self._rows[row] = dump(_example(self.content.train, row))
        return self._rows[row]

    def _query(self, q: int, hits: int) -> tuple[str, np.ndarray]:
        if (q, hits) not in self._queries:
            width = self._width(hits)
            values_MN = np.stack([scores.values[q] for scores in self.content.scores.values()])
            n_train = values_MN.shape[1]
            ranking = Ranking.of(values_MN)
            ranks_MN = n_train + 1 - ranking.ranks()  # 1 = the highest score
            lists = self._lists(ranking.order, width)
            rows, places = np.unique(lists, return_inverse=True)
            packed = {
                **_example(self.content.queries, q), "row": q, "behaviour": self._behaviour(q),
                "size": len(rows), "rows": _pack_bits(rows, n_train),
                "ranks": _pack_bits(ranks_MN[:, rows], n_train), "lists": _pack_bits(places, len(rows)),
                "scores": _pack(np.take_along_axis(values_MN, lists, axis=1), "<f4"),
            }
            if self.content.block_scores is not None:
                headline = self.head["headline"]
                packed |= self._shares(q, values_MN[headline, lists[headline]])
            self._queries[q, hits] = dump(packed), rows
        return self._queries[q, hits]

    def _behaviour(self, q: int) -> list[list[Any]]:
        facts = {} if self.content.behaviours is None else self.content.behaviours[q]
        return [[key, cut(show_fact(value))] for key, value in facts.items()]

    def _parts(self, q: int) -> np.ndarray:
        """float64 [2 * widest, groups]: contributions to the headline's longest lists, asked for once."""
        assert self.content.block_scores is not None
        if q not in self._contributions:
            scores = self.content.scores[self.content.headline]
            order = Ranking.of(scores.values[q:q + 1]).order
            rows = self._lists(order, self._width(HITS[0]))[0]
            parts = np.asarray(self.content.block_scores(q, rows.tolist()), dtype=np.float64)
            expected = (len(rows), len(self.content.blocks))
            if parts.shape != expected:
                raise WhenceError(f"report: block scores of query {q} have shape {list(parts.shape)}; "
                                  f"expected [rows, blocks] = {list(expected)}")
            if not np.isfinite(parts).all():
                row, block = np.argwhere(~np.isfinite(parts))[0]
                raise WhenceError(f"report: the block score of query {q}, training row {rows[row]}, block "
                                  f"{self.content.blocks[block]!r} is {parts[row, block]}")
            groups = [parts[:, columns].sum(1) for columns in self.block_groups.values()]
            self._contributions[q] = np.stack(groups, axis=1)
        return self._contributions[q]

    def _shares(self, q: int, scores: np.ndarray) -> dict[str, Any]:
        highest, lowest = np.split(self._parts(q), 2)
        parts = np.concatenate([highest[:len(scores) // 2], lowest[:len(scores) // 2]])
        whole = np.abs(parts).sum(1)
        shares = np.round(1000 * parts / np.where(whole == 0, 1, whole)[:, None])
        missed = np.abs(parts.sum(1) - scores) > SUM_TOLERANCE * np.maximum(whole, np.abs(scores))
        return {"shares": _pack(shares, "<i2"), "whole": _pack(whole, "<f4"),
                "parts_differ": bool(missed.any())}


def _pack(array: np.ndarray, dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(array, dtype=dtype).tobytes()).decode()


def _pack_bits(array: np.ndarray, largest: int) -> str:
    """Integers 0..largest, each in as many bits as `largest` takes, most significant first."""
    places = np.arange(int(largest).bit_length())[::-1]
    bits = (array.astype(np.int64).reshape(-1, 1) >> places) & 1
    return base64.b64encode(np.packbits(bits.astype(np.uint8).reshape(-1)).tobytes()).decode()


def _example(examples: Examples, row: int) -> dict[str, Any]:
    return {"id": cut(examples.ids[row])[0], "group": examples.groups[row],
            "prompt": cut(examples.prompts[row]), "response": cut(examples.responses[row]),
            "truncated": bool(examples.truncated[row])}

