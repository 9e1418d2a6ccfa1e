"""`Examples`: kept whole on disk, picked by row, told apart by content."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from whence.base.errors import WhenceError
from whence.data.examples import Examples


def three() -> Examples:
    return Examples(
        ids=("a", "b", "c"), groups=("x", None, "y"), prompts=("p", "", "é🙂"), responses=("r", "s\n", "t"),
        tokens=(np.array([1, 2, 3]), np.array([4, 5]), np.array([6])),
        is_response=(np.array([False, True, True]), np.array([False, True]), np.array([False])),
        truncated=(False, True, False))


def same(one: Examples, other: Examples) -> bool:
    def plain(value: object) -> object:
        return (value.dtype, value.tolist()) if isinstance(value, np.ndarray) else value

    return all([plain(v) for v in getattr(one, f.name)] == [plain(v) for v in getattr(other, f.name)]
               for f in fields(Examples))


def test_parquet_gives_back_an_equal_object(tmp_path: Path) -> None:
    three().write_parquet(tmp_path / "train.parquet")
    back = Examples.read_parquet(tmp_path / "train.parquet")
    assert same(back, three())
    assert back.content_hash == three().content_hash
    assert [p.name for p in tmp_path.iterdir()] == ["train.parquet"]


def hiding() -> Examples:
    return replace(three(), hidden=(np.array([True, False, False]), np.array([False, True]), np.array([False])))


def test_what_attention_must_not_see_is_kept_picked_and_part_of_the_content(tmp_path: Path) -> None:
    hiding().write_parquet(tmp_path / "x.parquet")
    assert same(Examples.read_parquet(tmp_path / "x.parquet"), hiding())
    assert hiding().attended(0).tolist() == [False, True, True]
    assert three().attended(0).tolist() == [True, True, True]
    assert [h.tolist() for h in hiding().select([1, 0]).hidden] == [[False, True], [True, False, False]]
    assert [h.tolist() for h in hiding().over(2).hidden[3:]] == [h.tolist() for h in hiding().hidden]
    assert hiding().content_hash != three().content_hash
    with pytest.raises(ValueError, match="columns of different length"):
        replace(three(), hidden=hiding().hidden[:2])


def test_parquet_keeps_a_column_without_any_group(tmp_path: Path) -> None:
    bare = replace(three(), groups=(None, None, None))
    bare.write_parquet(tmp_path / "x.parquet")
    assert same(Examples.read_parquet(tmp_path / "x.parquet"), bare)


def test_select_picks_rows_in_the_order_asked() -> None:
    picked = three().select(np.array([2, 0]))
    assert picked.ids == ("c", "a")
    assert [t.tolist() for t in picked.tokens] == [[6], [1, 2, 3]]
    assert same(three().select([0, 1, 2]), three())
    assert len(three().select([])) == 0


def test_lengths_and_summary() -> None:
    examples = three()
    assert examples.lengths.tolist() == [3, 2, 1]
    assert examples.response_lengths.tolist() == [2, 1, 0]
    assert examples.summary() == {"examples": 3, "tokens": 6, "response_tokens": 3, "truncated": 1,
                                  "longest": 3}
    assert examples.select([]).summary()["longest"] == 0


def test_the_hash_is_of_tokens_masks_and_order_and_of_nothing_else() -> None:
    examples = three()
    assert examples.content_hash == three().content_hash
    assert replace(examples, ids=("x", "y", "z"), prompts=("", "", "")).content_hash == examples.content_hash
    flipped = (np.array([False, False, True]), *examples.is_response[1:])
    changed = (np.array([1, 2, 9]), *examples.tokens[1:])
    joined = replace(examples, tokens=(np.array([1, 2]), np.array([3, 4, 5]), np.array([6])),
                     is_response=(np.array([False, True]), np.array([True, False, True]), np.array([False])))
    variations = [examples, examples.select([1, 0, 2]), examples.select([0, 1]), joined,
                  replace(examples, is_response=flipped), replace(examples, tokens=changed)]
    assert len({v.content_hash for v in variations}) == len(variations)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(WhenceError, match="id 'a' occurs more than once"):
        replace(three(), ids=("a", "b", "a"))
    with pytest.raises(ValueError, match="columns of different length"):
        replace(three(), ids=("a", "b"))


def test_a_file_that_holds_no_examples_is_named(tmp_path: Path) -> None:
    with pytest.raises(WhenceError, match=r"train\.parquet: no such file"):
        Examples.read_parquet(tmp_path / "train.parquet")
    (tmp_path / "text.parquet").write_text("prompt,completion\n")
    with pytest.raises(WhenceError, match=r"text\.parquet: not a Parquet file"):
        Examples.read_parquet(tmp_path / "text.parquet")
    pq.write_table(pa.table({"prompt": ["p"], "completion": ["c"]}), tmp_path / "raw.parquet")
    with pytest.raises(WhenceError, match=r"raw\.parquet: has the columns prompt, completion; expected ids, groups"):
        Examples.read_parquet(tmp_path / "raw.parquet")
    three().write_parquet(tmp_path / "cut.parquet")
    pq.write_table(pq.read_table(tmp_path / "cut.parquet").drop_columns(["tokens"]), tmp_path / "cut.parquet")
    with pytest.raises(WhenceError, match=r"cut\.parquet: has the columns ids, .*; expected"):
        Examples.read_parquet(tmp_path / "cut.parquet")


def test_examples_over_and_over_have_ids_of_their_own() -> None:
    few = three().select([0, 1])
    assert few.over(1) is few
    thrice = few.over(3)
    assert thrice.ids == ("a", "b", "a (2)", "b (2)", "a (3)", "b (3)")
    assert all((a == b).all() for a, b in zip(thrice.tokens, few.tokens * 3, strict=True))
