"""Influence by token of training rows on the query they were ranked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float64
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from whence.base.errors import WhenceError
from whence.curvature.fit import Situation
from whence.data.examples import Examples
from whence.measure.measurement import Measurement
from whence.run.solved import solve_at_once, solver_of
from whence.views.tokens import token_influence


@dataclass(frozen=True)
class HitTokens:
    """The tokens of one training row and what comes from the gradient at each; the sum is the row's score.

    Attributes:
        row: index among the training rows.
        texts: each token as text by itself.
        scores: in the unit of the row's score.
        what: how the numbers are to be read (see `views/tokens.py`).
    """

    row: int
    texts: tuple[str, ...]
    scores: Float64[np.ndarray, " L"]
    what: str

    def __post_init__(self) -> None:
        if len(self.texts) != len(self.scores):
            raise ValueError(f"{len(self.texts)} tokens and {len(self.scores)} scores")

    def __len__(self) -> int:
        return len(self.texts)

    def strongest(self, count: int = 5) -> list[tuple[int, str, float]]:
        """`(position, text, score)` of the tokens with the largest absolute scores, largest first."""
        order = np.argsort(-np.abs(self.scores), kind="stable")[:count]
        return [(int(t), self.texts[t], float(self.scores[t])) for t in order]

    def to_json(self, count: int) -> list[dict[str, Any]]:
        """The strongest, as plain values."""
        return [{"position": t, "text": text, "score": score} for t, text, score in self.strongest(count)]


@dataclass
class TokenView:
    """`view(rows)`: the tokens of some training rows, for one query under one method.

    The query's vectors are made at the first call and kept. `identity` gives what the vectors depend on; where that
    is not what it was when the rows were ranked, the numbers would be of another model.

    Raises (when called):
        WhenceError: a method without resident vectors, or weights that were changed since.
    """

    situation: Situation
    query: Examples
    method: str
    measurement: Measurement
    memory: int | None
    tokenizer: PreTrainedTokenizerBase
    identity: Callable[[], object]
    _before: object = None
    _vectors: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._before = self.identity()

    def __call__(self, rows: Sequence[int]) -> list[HitTokens]:
        _, solver = solver_of(self.method, "influence by token")
        if self.identity() != self._before:
            raise WhenceError("the model was changed since these rows were ranked: trace the answer again")
        situation = self.situation
        if not self._vectors:
            solution = solve_at_once(situation, self.query, solver, self.measurement, self.memory)
            self._vectors = [vectors.whole() for vectors in solution.vectors]
        examples = situation.train.select(rows)
        found = token_influence(situation.model, examples, situation.blocks, self._vectors, len(situation.train),
                                pad_id=situation.pad_id, layout=situation.layout)
        return [HitTokens(int(row), tuple(str(self.tokenizer.decode([int(token)])) for token in tokens), values[0],
                          found.what) for row, tokens, values in zip(rows, examples.tokens, found.values, strict=True)]
