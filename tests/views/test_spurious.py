"""The spurious filter: its ratio, what it flags, and the rows of which it says nothing."""

from __future__ import annotations

import numpy as np
import pytest

from whence.base.errors import WhenceError
from whence.views.spurious import spurious
from whence.views.tokenwise import Tokenwise


def view(*rows: list[float], can_carry: list[int] | None = None) -> Tokenwise:
    values = tuple(np.array([row]) for row in rows)
    carry = can_carry or [len(row) for row in rows]
    return Tokenwise(tuple(map(str, range(len(rows)))), values, "", np.array(carry))


def test_the_ratio_by_hand() -> None:
    found = spurious(view([3.0, -4.0, 0.0], [1.0] * 16, [0.0, 0.0, -2.0]))
    np.testing.assert_allclose(found.ratio, [[5 / 7, 1 / 4, 1.0]], rtol=1e-15)
    assert found.flagged.tolist() == [[True, False, True]]
    assert not found.undecided.any() and not found.zero.any()


def test_at_the_threshold_nothing_is_flagged() -> None:
    even = view([1.0, 1.0, 1.0, 1.0])
    assert not spurious(even, 0.5).flagged.any()  # the ratio is 1/2
    assert spurious(view([1.0, 1.0, 1.0, 1.001]), 0.5).flagged.all()


def test_rows_without_influence_are_neither_flagged_nor_hidden() -> None:
    found = spurious(view([0.0, 0.0, 0.0], [1.0, 1.0, 1.0]))
    assert np.isnan(found.ratio[0, 0]) and found.zero.tolist() == [[True, False]]
    assert not found.flagged.any() and not found.undecided.any()
    assert str(found) == "0 of 2 flagged (|a|_2/|a|_1 > 0.667), 0 too short to tell, 1 without influence"


def test_one_and_two_positions_are_too_short_to_tell() -> None:
    found = spurious(view([5.0, 0.0], [1.0, 1.0, 0.0], [9.0, 0.0, 0.0], [0.0, 0.0], can_carry=[1, 2, 3, 1]))
    assert found.undecided.tolist() == [[True, True, False, False]]
    assert found.flagged.tolist() == [[False, False, True, False]]
    assert found.zero.tolist() == [[False, False, False, True]]  # zero is zero, however short
    assert spurious(view([1.0, 1.0, 0.0], can_carry=[2]), 0.8).undecided.tolist() == [[False]]


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_the_ratio_has_no_scale(scale: float) -> None:
    np.testing.assert_allclose(spurious(view([3.0 * scale, 4.0 * scale, 0.0])).ratio, 5 / 7, rtol=1e-14)


@pytest.mark.parametrize("threshold", [0.0, 1.0, -1.0])
def test_a_threshold_that_means_nothing_is_refused(threshold: float) -> None:
    with pytest.raises(WhenceError, match="expected a number between 0 and 1"):
        spurious(view([1.0]), threshold)
