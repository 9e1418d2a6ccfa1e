"""Subsets: who is in them, what makes two of them one member, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from whence.base.errors import WhenceError
from whence.truth.subsets import Subset, all_rows, by_group, leave_one_out, leave_out, random_subsets


def test_random_subsets_have_their_size_and_follow_from_seed_and_number() -> None:
    found = random_subsets(11, 5, alpha=0.4, seed=3)
    assert [int(s.kept.sum()) for s in found] == [4] * 5
    assert len({s.key for s in found}) == 5
    assert [s.key for s in random_subsets(11, 2, alpha=0.4, seed=3)] == [s.key for s in found[:2]]
    assert not {s.key for s in random_subsets(11, 5, alpha=0.4, seed=4)} & {s.key for s in found}
    for alpha in (0.0, 0.01, 1.0):
        with pytest.raises(WhenceError, match="expected at least one and not all"):
            random_subsets(11, 1, alpha=alpha)


def test_what_is_left_out() -> None:
    assert [s.left_out.tolist() for s in leave_one_out(3)] == [[0], [1], [2]]
    assert [s.left_out.tolist() for s in leave_one_out(9, [7])] == [[7]]
    (top,) = leave_out(5, {"top 2": np.array([4, 1])})
    assert (top.name, top.left_out.tolist()) == ("top 2", [1, 4])
    groups = by_group(["x", "y", "x"])
    assert [(s.name, s.left_out.tolist()) for s in groups] == [("without group x", [0, 2]), ("without group y", [1])]
    assert all_rows(4)[0].kept.all() and [s.seed for s in all_rows(4, [1, 2])] == [1, 2]


def test_a_member_is_its_rows_and_its_seed() -> None:
    kept = np.array([True, False, True])
    same = {Subset(name, kept.copy()).key for name in ("a", "b")}
    assert len(same) == 1
    others = {Subset("a", kept, 0).key, Subset("a", kept, 1).key, Subset("a", ~kept).key,
              Subset("a", np.append(kept, False)).key}
    assert len(others | same) == 5


@pytest.mark.parametrize(("make", "said"), [
    (lambda: leave_out(3, {"all": [0, 1, 2]}), "subset 'all': keeps none of 3 rows"),
    (lambda: leave_out(3, {"far": [3]}), r"row 3 is not one of 3 \(0 to 2\)"),
    (lambda: by_group(["x", None]), "row 1 has no group")])
def test_what_cannot_be_is_refused(make: object, said: str) -> None:
    with pytest.raises(WhenceError, match=said):
        make()  # type: ignore[operator]
