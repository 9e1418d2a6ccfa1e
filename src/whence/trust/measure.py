"""What the free dials need of the model: one pass over the training rows, and a few rows twice."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from whence.curvature.fit import Situation
from whence.sweep.norms import NormSink, SumSink
from whence.sweep.sweep import sweep

ROWS = 16  # that are looked at twice


@dataclass(frozen=True)
class Gradients:
    """The training rows' gradients, over all blocks.

    Attributes:
        common: `|mean_i g_i|^2 / mean_i |g_i|^2`; NaN where every gradient is zero.
        largest: the largest row's share of `sum_i |g_i|^2`.
        row: which row that is.
    """

    common: float
    largest: float
    row: int


def look_at_gradients(situation: Situation) -> Gradients:
    """One pass over the training rows."""
    norms = NormSink(situation.blocks, len(situation.train), situation.device)
    total = SumSink(situation.blocks, situation.device, situation.dtype)
    sweep(situation.model, situation.train, situation.blocks, [norms, total], pad_id=situation.pad_id,
          layout=situation.layout, what="do the rows' gradients cancel?")
    squares = norms.squares.sum(dim=0)
    whole, count = float(squares.sum()), len(situation.train)
    if whole == 0:
        return Gradients(float("nan"), float("nan"), 0)
    mean = sum(float(part.double().square().sum()) for part in total.sums) / count**2
    return Gradients(mean / (whole / count), float(squares.max()) / whole, int(squares.argmax()))


def batch_deviation(situation: Situation) -> tuple[float, int]:
    """How far gradients of a few rows differ between batches of one and batches that are padded, and how many rows.

    The larger of two: the worst difference of a row's norm, relative to it (or to a hundredth of the typical norm,
    where the row is smaller), and the norm of the difference of the sums of all gradients, relative to the norm of a
    sum of as many independent ones. Short and long rows are taken together, so that there is padding.
    """
    lengths = situation.train.lengths
    order = np.argsort(lengths, kind="stable")
    rows = order[np.unique(np.linspace(0, len(order) - 1, min(ROWS, len(order))).round().astype(int))]
    some, found = situation.train.select(rows), []
    wide = int(some.lengths.max()) * len(some)
    for layout in (replace(situation.layout, batch_size=1), replace(situation.layout, batch_tokens=wide,
                                                                     batch_size=None)):
        norms = NormSink(situation.blocks, len(some), situation.device)
        total = SumSink(situation.blocks, situation.device, situation.dtype)
        sweep(situation.model, some, situation.blocks, [norms, total], pad_id=situation.pad_id, layout=layout,
              what="batches of one, and padded")
        found.append((norms.squares.sum(dim=0).sqrt(), total.sums))
    (one, sum_one), (many, sum_many) = found
    typical = float(one.square().mean().sqrt())
    if typical == 0:
        return 0.0, len(some)
    of_rows = float(((one - many).abs() / one.clamp_min(0.01 * typical)).max())
    apart = sum(float((a - b).double().square().sum()) for a, b in zip(sum_one, sum_many, strict=True))
    return max(of_rows, (apart / len(some)) ** 0.5 / typical), len(some)
