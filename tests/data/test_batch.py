"""Batches: every row once, within the limits, padded where nothing counts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whence.base.errors import WhenceError
from whence.data.batch import IGNORE, PaddingSide, collate, plan_batches
from whence.data.examples import Examples

PAD = 99


def of_lengths(lengths: list[int]) -> Examples:
    n = len(lengths)
    return Examples(tuple(str(i) for i in range(n)), (None,) * n, ("",) * n, ("",) * n,
                    tuple(np.arange(1, length + 1) for length in lengths),
                    tuple(np.arange(length) > 0 for length in lengths), (False,) * n)


@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=40), batch_tokens=st.integers(1, 200),
       batch_size=st.one_of(st.none(), st.integers(1, 9)))
def test_every_row_stands_in_one_batch_within_the_limits(lengths: list[int], batch_tokens: int,
                                                         batch_size: int | None) -> None:
    plan = plan_batches(of_lengths(lengths), batch_tokens, batch_size)
    assert sorted(int(row) for rows in plan for row in rows) == list(range(len(lengths)))
    widths = [max(lengths[row] for row in rows) for rows in plan]
    assert widths == sorted(widths, reverse=True)
    for rows, width in zip(plan, widths, strict=True):
        assert len(rows) == 1 or len(rows) * width <= batch_tokens
        assert batch_size is None or len(rows) <= batch_size


def test_batches_are_as_full_as_the_limits_let_them_be() -> None:
    plan = plan_batches(of_lengths([5, 2, 5, 2, 2]), batch_tokens=10)
    assert [rows.tolist() for rows in plan] == [[0, 2], [1, 3, 4]]


@pytest.mark.parametrize("limits", [{"batch_size": 0}, {"batch_size": -3}, {"batch_tokens": 0}, {"batch_tokens": -1}])
def test_a_limit_below_one_is_refused(limits: dict[str, int]) -> None:
    ((name, limit),) = limits.items()
    with pytest.raises(WhenceError, match=f"{name}={limit}: expected at least 1"):
        plan_batches(of_lengths([3, 2]), **limits)


@pytest.mark.parametrize(("side", "ids", "positions"), [
    ("right", [[1, 2, 3], [1, PAD, PAD]], [[0, 1, 2], [0, 0, 0]]),
    ("left", [[1, 2, 3], [PAD, PAD, 1]], [[0, 1, 2], [0, 0, 0]]),
])
def test_padding_stands_on_its_side_and_counts_nowhere(side: PaddingSide, ids: list[list[int]],
                                                       positions: list[list[int]]) -> None:
    batch = collate(of_lengths([1, 4, 3]), [2, 0], PAD, side)
    assert batch.input_ids.tolist() == ids
    assert batch.attention_mask.tolist() == [[int(i != PAD) for i in row] for row in ids]
    assert batch.position_ids.tolist() == positions
    assert batch.labels.tolist() == [[IGNORE, 2, 3], [IGNORE] * 3]
    assert batch.rows.tolist() == [2, 0]


@given(lengths=st.lists(st.integers(1, 12), min_size=1, max_size=8), side=st.sampled_from(["left", "right"]))
def test_what_is_not_padding_is_the_example(lengths: list[int], side: PaddingSide) -> None:
    examples = of_lengths(lengths)
    batch = collate(examples, range(len(lengths)), PAD, side)
    for b, length in enumerate(lengths):
        there = batch.attention_mask[b].bool()
        assert batch.input_ids[b][there].tolist() == examples.tokens[b].tolist()
        assert batch.position_ids[b][there].tolist() == list(range(length))
        counted = batch.labels[b] != IGNORE
        assert batch.labels[b][counted].tolist() == examples.tokens[b][examples.is_response[b]].tolist()
        assert not counted[~there].any()


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_hidden_token_keeps_its_position_and_label_and_is_not_attended(side: PaddingSide) -> None:
    plain = of_lengths([4, 6])
    hidden = replace(plain, hidden=(np.array([True, True, False, False]), np.arange(6) > 4))
    a, b = (collate(examples, [0, 1], PAD, side) for examples in (plain, hidden))
    for name in ("input_ids", "position_ids", "labels", "flat", "targets", "owners", "reach"):
        assert getattr(a, name).equal(getattr(b, name)), name
    for row, rows_own in enumerate(hidden.hidden):
        there = a.attention_mask[row].bool()
        assert b.attention_mask[row][there].tolist() == (~rows_own).astype(int).tolist()
        assert not b.attention_mask[row][~there].any()


def test_moving_keeps_every_tensor() -> None:
    batch = collate(of_lengths([2, 1]), [0, 1], PAD)
    moved = batch.to("cpu")
    for name in vars(batch):
        assert getattr(moved, name).equal(getattr(batch, name))
