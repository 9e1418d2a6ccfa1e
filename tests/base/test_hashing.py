"""Content hashes: the same content the same hash in any order, any other content another hash."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from whence.base.hashing import hash_json, hash_tensors

JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
                    max_leaves=8)


@given(st.dictionaries(st.text(max_size=3), JSON, max_size=4), st.randoms())
def test_the_order_of_keys_does_not_matter(value: dict[str, Any], rng: Any) -> None:
    items = list(value.items())
    rng.shuffle(items)
    assert hash_json(dict(items)) == hash_json(value)


def test_everything_else_of_a_value_does() -> None:
    values = [None, 0, "", [], {}, [0], ["0"], [[0]], [0, 0], {"a": 0}, {"0": "a"}, {"a": {"b": 0}}, ["a", "b"],
              ["b", "a"], "a,b", False, 0.5]
    hashes = {hash_json(value) for value in values}
    assert len(hashes) == len(values)
    assert all(len(text) == 16 and int(text, 16) >= 0 for text in hashes)


TENSORS = [("a", torch.arange(6.0).reshape(2, 3)), ("b", torch.tensor(3)), ("c", torch.zeros(0, 2)),
           ("d", torch.tensor([True, False]))]


def test_the_order_of_tensors_does_not_matter() -> None:
    assert len({hash_tensors(order) for order in permutations(TENSORS)}) == 1


@pytest.mark.parametrize(("name", "tensor"), [
    ("z", torch.arange(6.0).reshape(2, 3)),                       # another name
    ("a", torch.arange(6.0).reshape(3, 2)),                       # another shape
    ("a", torch.arange(6.0, dtype=torch.float64).reshape(2, 3)),  # another dtype
    ("a", torch.arange(6.0).reshape(2, 3).nextafter(torch.tensor(9.0))),  # one bit
    ("a", torch.arange(6.0).reshape(2, 3).bfloat16()),
])
def test_name_shape_dtype_and_every_bit_do(name: str, tensor: torch.Tensor) -> None:
    assert hash_tensors([(name, tensor), *TENSORS[1:]]) != hash_tensors(TENSORS)


def test_what_does_not_change_the_values_does_not_matter() -> None:
    plain = torch.arange(6.0).reshape(2, 3)
    transposed = plain.T.contiguous().T  # another memory layout
    needs_grad = plain.clone().requires_grad_()
    view = torch.arange(-1.0, 8.0)[1:7].view(2, 3)
    assert {hash_tensors([("a", t)]) for t in (plain, transposed, needs_grad, view)} == {hash_tensors([("a", plain)])}
    assert hash_tensors([]) != hash_tensors([("a", plain)])
