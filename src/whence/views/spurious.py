"""Spurious sequences: influence that hangs on one or two positions.

    ratio = |a|_2 / |a|_1,   a = tokenwise influence of one example on one query       flagged: ratio > 2/3

The ratio is 1 where one position holds everything and 1 / sqrt(L) where L positions hold the same; Grosse et al.
2023 (arXiv 2308.03296, section 4) leave sequences above 2/3 out of the top lists, as artefacts of the tokenizer and
of rare tokens. Not every such row is an artefact: read one before it is dropped.

Two cases in which the ratio says nothing are told apart. Where no position has any influence it is 0 / 0: NaN, not
flagged. Where at most 1 / threshold^2 positions can hold influence at all (one or two, for 2/3), the ratio is above
the threshold whatever they hold: not flagged, but `undecided`.

Shapes: Q queries, n examples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from whence.base.errors import WhenceError
from whence.views.tokenwise import Tokenwise

THRESHOLD = 2 / 3


@dataclass(frozen=True)
class Spurious:
    """The filter's answer for each query and example; at most one of `flagged`, `undecided`, `zero` is True.

    Attributes:
        ratio: |a|_2 / |a|_1, NaN where all of a is 0.
        flagged: the ratio is above the threshold, and could have been below.
        undecided: too few positions: the ratio is above the threshold whatever they hold.
        zero: no position has any influence.
    """

    ratio: Float64[np.ndarray, "Q n"]
    flagged: Bool[np.ndarray, "Q n"]
    undecided: Bool[np.ndarray, "Q n"]
    zero: Bool[np.ndarray, "Q n"]
    threshold: float

    def __str__(self) -> str:
        """`3 of 40 flagged (|a|_2/|a|_1 > 0.667), 1 too short to tell, 0 without influence`."""
        return (f"{self.flagged.sum()} of {self.ratio.size} flagged (|a|_2/|a|_1 > {self.threshold:.3g}), "
                f"{self.undecided.sum()} too short to tell, {self.zero.sum()} without influence")


def spurious(tokens: Tokenwise, threshold: float = THRESHOLD) -> Spurious:
    """Flag the (query, example) pairs whose influence is held by very few positions.

    Raises:
        WhenceError: a threshold that is not between 0 and 1.
    """
    if not 0 < threshold < 1:
        raise WhenceError(f"threshold={threshold}: expected a number between 0 and 1 (2/3 in the literature)")
    ratio = np.stack([_ratio(values) for values in tokens.values], axis=1)
    zero = np.isnan(ratio)
    short = np.broadcast_to(tokens.can_carry * threshold**2 < 1, ratio.shape) & ~zero
    return Spurious(ratio, (np.nan_to_num(ratio, nan=0.0) > threshold) & ~short, short, zero, threshold)


def _ratio(values: Float64[np.ndarray, "Q L"]) -> Float64[np.ndarray, " Q"]:
    """|a|_2 / |a|_1 of each row, by a / max |a| so that no square is lost; NaN for rows of zeros."""
    largest = np.abs(values).max(axis=1, initial=0.0, keepdims=True)
    scaled = np.divide(np.abs(values), largest, out=np.full(values.shape, np.nan), where=largest > 0)
    return np.sqrt((scaled**2).sum(axis=1)) / scaled.sum(axis=1) if values.shape[1] else np.full(len(values), np.nan)
