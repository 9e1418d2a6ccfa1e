"""Free dials on scores and gradients whose faults are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from tests import tiny
from whence.curvature.fit import Situation
from whence.models.blocks import select_blocks
from whence.sweep.norms import NormSink, SumSink
from whence.sweep.sweep import Layout, sweep
from whence.trust.dial import Reading
from whence.trust.free import (
    convergence,
    hubs,
    idle_curvature,
    loss_slope,
    outliers,
    overlap,
    own_places,
    rows_used,
    self_retrieval,
    settled,
)
from whence.trust.measure import batch_deviation, look_at_gradients

RNG = np.random.default_rng(0)
SCORES = RNG.normal(size=(6, 40))
TRAIN = tiny.examples(9)
IDS = tuple(f"row{i}" for i in range(40))


def situation(make: object = tiny.gpt2, dtype: torch.dtype = torch.float64) -> Situation:
    model = make(dtype=dtype)  # type: ignore[operator]
    return Situation(model, TRAIN, select_blocks(model), layout=Layout(batch_size=2))


@pytest.mark.parametrize("make", [tiny.gpt2, tiny.lora])
def test_norms_and_sums_of_gradients(make: object) -> None:
    of = situation(make)
    norms, total = NormSink(of.blocks, len(TRAIN)), SumSink(of.blocks, dtype=torch.float64)
    sweep(of.model, TRAIN, of.blocks, [norms, total], layout=of.layout)
    expected = tiny.gradients(of.model, TRAIN, [block.name for block in of.blocks])
    for b, (block, g) in enumerate(zip(of.blocks, expected, strict=True)):
        torch.testing.assert_close(norms.squares[b], g.square().sum(dim=1), rtol=1e-6, atol=1e-9)
        weights = block.outputs * block.inputs
        mine = torch.cat([total.sums[b][:, : block.inputs].reshape(-1),
                          *([total.sums[b][:, -1]] if block.bias else [])])
        torch.testing.assert_close(mine, g.sum(dim=0), rtol=1e-6, atol=1e-8)
        assert len(mine) == weights + block.outputs * block.bias


def test_common_gradient_is_the_share_of_the_mean() -> None:
    of = situation()
    g = torch.cat(tiny.gradients(of.model, TRAIN, [block.name for block in of.blocks]), dim=1)
    expected = g.mean(dim=0).square().sum() / g.square().sum(dim=1).mean()
    seen, squares = look_at_gradients(of), g.square().sum(dim=1)
    assert seen.common == pytest.approx(float(expected), rel=1e-6)
    assert seen.row == int(squares.argmax())
    assert seen.largest == pytest.approx(float(squares.max() / squares.sum()), rel=1e-6)


def test_an_outlier_is_seen() -> None:
    assert [outliers(x, "a", 1000).reading for x in (0.1, 0.4, 0.6)] == [Reading.GOOD, Reading.POOR, Reading.BAD]
    assert outliers(0.3, "a", 12).reading is Reading.GOOD and "row 'a' holds 30%" in outliers(0.3, "a", 12).says


def test_padding_changes_nothing_and_where_it_does_the_dial_sees_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert batch_deviation(situation())[0] < 1e-9
    assert batch_deviation(situation(dtype=torch.float32))[0] < 1e-4
    import whence.sweep.sweep as module

    masked = module.collate

    def careless(*args: object, **kwargs: object) -> object:
        batch = masked(*args, **kwargs)  # type: ignore[arg-type]
        return replace(batch, position_ids=torch.zeros_like(batch.position_ids) + batch.labels.shape[1])

    monkeypatch.setattr(module, "collate", careless)  # positions that depend on who else is in the batch
    assert batch_deviation(situation())[0] > 1e-2


def test_rows_say_what_was_cut() -> None:
    assert rows_used(TRAIN, TRAIN).reading is Reading.GOOD
    cut = replace(TRAIN, truncated=(True,) * 5 + (False,) * 4)
    assert rows_used(cut, TRAIN).reading is Reading.BAD and "5 and 0 were cut off" in rows_used(cut, TRAIN).says


def test_convergence_reads_gradients_and_loss() -> None:
    nan = float("nan")
    assert [convergence(x, nan, 1000).reading for x in (1e-4, 2e-3, 1e-2)] == [Reading.GOOD, Reading.POOR, Reading.BAD]
    assert convergence(1e-4, 0.3, 1000).reading is Reading.BAD
    assert convergence(0.03, nan, 30).reading is Reading.GOOD and "0.9 x" in convergence(0.03, nan, 30).says


def test_loss_slope_is_of_the_last_tenth() -> None:
    log = [{"loss": 2.0, "tokens": 4}] * 18 + [{"loss": 2.0, "tokens": 10}, {"loss": 1.0, "tokens": 30}]
    assert loss_slope(log) == pytest.approx(1 - (2 * 10 + 30) / 40 / 2)
    assert np.isnan(loss_slope(log[:9]))


def test_an_idle_curvature_is_seen() -> None:
    assert idle_curvature(SCORES, SCORES * 3).reading is Reading.BAD
    assert idle_curvature(SCORES, -SCORES).reading is Reading.GOOD
    near = idle_curvature(SCORES, SCORES + RNG.normal(size=SCORES.shape) * 0.15)
    assert near.reading is Reading.POOR and near.per_query is not None and near.per_query.shape == (6,)


def test_scores_that_still_move_are_seen() -> None:
    same = settled(SCORES, SCORES, 5, 9)
    assert same.reading is Reading.GOOD and "steps 5 and 9" in same.says
    assert settled(SCORES, RNG.normal(size=SCORES.shape), 5, 9).reading is Reading.BAD


def test_a_hub_is_seen_and_few_queries_cannot_show_one() -> None:
    assert hubs(SCORES, IDS).reading is Reading.GOOD
    bent = SCORES.copy()
    bent[:, 7] = 30.0
    assert hubs(bent, IDS).reading is Reading.BAD and "'row7'" in hubs(bent, IDS).says
    assert hubs(bent[:2], IDS).reading is Reading.UNKNOWN


def test_self_retrieval_counts_the_rows_behind() -> None:
    rows = np.array([3, 5])
    scores = np.zeros((2, 11))
    scores[0, 3], scores[1, 4] = 1.0, 1.0
    np.testing.assert_allclose(own_places(scores, rows), [1.0, 0.45])  # 9 ties and one ahead: 4.5 of 10
    assert self_retrieval(np.array([1.0, 1.0, 0.2])).reading is Reading.GOOD
    assert self_retrieval(np.array([0.5, 0.4])).reading is Reading.BAD


def test_overlap_is_a_fact_and_no_reading() -> None:
    same = overlap(SCORES, SCORES, "BM25")
    assert same.reading is Reading.UNKNOWN and same.role == "note" and "100% of the top 10" in same.says
