"""`Tokenwise`: nothing that is not finite gets through, totals and order."""

from __future__ import annotations

import numpy as np
import pytest

from tests import tiny
from whence.base.errors import WhenceError
from whence.views.tokenwise import Tokenwise, influencing_positions


def test_a_nan_names_the_example_and_the_position() -> None:
    values = (np.zeros((2, 3)), np.array([[0.0, 1.0], [np.nan, np.inf]]))
    with pytest.raises(WhenceError, match=r"query 1 of position 0 of example 'b' is nan \(2 of 4"):
        Tokenwise(("a", "b"), values, "", np.array([2, 1]))


def test_totals_and_the_strongest() -> None:
    view = Tokenwise(("a", "b"), (np.array([[1.0, -3.0, 0.0]]), np.array([[0.5, 0.5]])), "", np.array([2, 1]))
    assert len(view) == 2
    assert view.totals.tolist() == [[-2.0, 1.0]]
    assert view.strongest(0, 0, 3) == [1, 0]  # a zero is no influence
    assert view.strongest(0, 1, 1) == [0]


def test_influencing_positions_end_before_the_last_counted_token() -> None:
    data = tiny.examples(4)
    masks = [np.array(m) for m in ([False, True], [False, True, False], [False, False, False, True], [False] * 2)]
    tokens = tuple(np.arange(len(m)) for m in masks)
    rows = type(data)(data.ids, data.groups, data.prompts, data.responses, tokens, tuple(masks), data.truncated)
    assert influencing_positions(rows).tolist() == [1, 1, 3, 0]
