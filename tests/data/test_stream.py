"""Rows read one after the other: the same rows as reading them all, and bad ones told by their number."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import PreTrainedTokenizerBase

from whence.base.errors import WhenceError
from whence.data.encode import encode, load_examples
from whence.data.examples import Examples
from whence.data.rows import Rows
from whence.data.stream import Part, RawRow, encode_part, stream_rows
from whence.models.build import train_tokenizer

ROWS: list[dict[str, Any]] = [{"prompt": f"what is {i}?", "completion": f" it is {i}", "group": "ab"[i % 2]}
                              for i in range(9)]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return train_tokenizer([row["prompt"] + row["completion"] for row in ROWS], 280)


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    text = "\n".join(json.dumps(row) + "\n" for row in rows)  # an empty line between any two
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    elif path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=4)
    else:
        path.write_text("\ufeff" + text)  # as some editors begin a file
    return path


def part_of(source: object, tokenizer: PreTrainedTokenizerBase, columns: dict[str, str] | None = None,
            **options: Any) -> Part:
    name, rows = stream_rows(source)
    return encode_part(list(rows), name, columns or {}, lambda found: encode(found, tokenizer, **options))


@pytest.mark.parametrize("name", ["c.jsonl", "c.json", "c.jsonl.gz", "c.parquet"])
def test_a_file_gives_the_examples_that_reading_it_whole_gives(name: str, tokenizer: PreTrainedTokenizerBase,
                                                               tmp_path: Path) -> None:
    path = write(tmp_path / name, ROWS)
    part, whole = part_of(path, tokenizer), load_examples(path, tokenizer)
    assert part.examples.content_hash == whole.content_hash and part.bad == ()
    assert part.names == part.examples.ids == whole.ids and part.numbers == tuple(range(9))
    assert (part.examples.groups, part.examples.prompts) == (whole.groups, whole.prompts)


def test_objects_are_taken_one_by_one(tokenizer: PreTrainedTokenizerBase) -> None:
    made: list[int] = []

    def rows() -> Iterator[dict[str, Any]]:
        for i, row in enumerate(ROWS):
            made.append(i)
            yield row

    _, found = stream_rows(rows())
    assert made == []
    first = next(found)
    assert made == [0] and (first.number, first.content, first.line) == (0, ROWS[0], None)
    assert part_of(ROWS, tokenizer).examples.content_hash == load_examples(ROWS, tokenizer).content_hash


BAD: list[tuple[object, str]] = [
    (b"{", r"c, row 3 \(line 8\): not valid JSON"),
    (b"\xff", r"c, row 3 \(line 8\): not UTF-8"),
    (b"[1]", r"c, row 3 \(line 8\): met list \[1\]; expected an object"),
    ({}, r"c, row 3 \(line 8\): met dict \{\}; expected an object"),
    ({"prompt": "x", "completion": " "}, r"c, row 3 \(line 8\), column 'completion': is empty"),
    ({"prompt": "x", "completion": 7}, r"c, row 3 \(line 8\), column 'completion': met int 7; expected a string"),
    ({"prompt": "x"}, r"c: the columns \(prompt\) fit no format"),
    ({"prompt": "x", "completion": "y", "text": "z"}, "fit more than one format"),
    ({"prompt": "x", "completion": "y", "id": 1.5}, r"c, row 3 \(line 8\), column 'id': met float 1.5"),
    ({"prompt": "long " * 50, "completion": "y"}, r"c, row 3 \(line 8\): has \d+ tokens, and the response begins with"),
]


@pytest.mark.parametrize(("bad", "message"), BAD)
def test_a_bad_row_is_named_and_takes_no_other_with_it(bad: object, message: str,
                                                       tokenizer: PreTrainedTokenizerBase) -> None:
    contents: list[object] = [json.dumps(row).encode() for row in ROWS]
    contents[3] = bad if isinstance(bad, bytes) else json.dumps(bad).encode()
    raw = [RawRow(i, content, i + 5) for i, content in enumerate(contents)]
    part = encode_part(raw, "c", {}, lambda rows: encode(rows, tokenizer, max_length=40))
    (told,) = part.bad
    with pytest.raises(WhenceError, match=message):
        raise WhenceError(told)
    rest = load_examples(ROWS[:3] + ROWS[4:], tokenizer, max_length=40)
    assert part.examples.content_hash == rest.content_hash and part.numbers == (0, 1, 2, 4, 5, 6, 7, 8)
    assert part.examples.ids == part.names == tuple(map(str, part.numbers))


def test_rows_of_two_formats_are_each_taken_for_what_they_are(tokenizer: PreTrainedTokenizerBase) -> None:
    mixed = [ROWS[0], {"text": "some plain text"}, ROWS[1]]
    part = part_of(mixed, tokenizer)
    assert part.bad == () and part.examples.prompts == (ROWS[0]["prompt"], "", ROWS[1]["prompt"])
    np.testing.assert_array_equal(part.examples.tokens[1], load_examples([mixed[1]], tokenizer).tokens[0])


def test_columns_of_other_names_and_rows_without_a_name_or_group(tokenizer: PreTrainedTokenizerBase) -> None:
    rows = [{"q": "what?", "a": " that", "n": "one", "l": "x"}, {"q": "who?", "a": " they"}]
    columns = {"prompt": "q", "completion": "a", "id": "n", "group": "l"}
    part = part_of(rows, tokenizer, columns)
    assert part.names == ("one", "1") and part.examples.groups == ("x", None) and part.examples.ids == ("0", "1")
    twice = part_of([rows[0], rows[0]], tokenizer, columns)
    assert twice.names == ("one", "one") and len(twice.examples) == 2
    for part in (part_of(rows, tokenizer, columns | {"prompt": "p"}), part_of(rows[1:], tokenizer, {"prompt": "p"})):
        assert all("no column 'p' (wanted for prompt)" in told for told in part.bad) and not len(part.examples)


def test_what_a_check_refuses_is_named_by_its_row(tokenizer: PreTrainedTokenizerBase) -> None:
    def picky(rows: Rows) -> Examples:
        found = encode(rows, tokenizer)
        if any("7" in prompt for prompt in found.prompts):
            raise WhenceError("sevens are not wanted")
        return found

    name, raw = stream_rows(ROWS)
    part = encode_part(list(raw), name, {}, picky)
    assert part.bad == ("the rows given, row 7: sevens are not wanted",) and len(part.examples) == 8


def test_the_digest_is_of_every_row_and_their_order(tmp_path: Path) -> None:
    def digest(source: object) -> bytes:
        found = b""
        for row in stream_rows(source)[1]:
            found = row.digest(found)
        return found

    path = write(tmp_path / "c.jsonl", ROWS)
    first = digest(path)
    assert digest(path) == first and digest(ROWS) == digest(iter(ROWS))
    write(path, [*ROWS[1:], ROWS[0]])
    assert digest(path) != first
    assert digest([{**ROWS[0], "x": 1}, *ROWS[1:]]) != digest(ROWS)


def test_what_cannot_be_streamed_is_refused(tmp_path: Path) -> None:
    array, other, broken = tmp_path / "a.json", tmp_path / "a.csv", tmp_path / "b.jsonl.gz"
    array.write_text("[]")
    other.write_text("a,b")
    broken.write_bytes(gzip.compress(b'{"text": "x"}\n' * 2000)[:-20])
    (tmp_path / "b.parquet").write_text("no")
    for source, message in ((tmp_path / "gone.jsonl", "gone.jsonl: no such file; expected"),
                            (tmp_path, "a folder; expected .jsonl"), (other, "unknown kind of file"),
                            (7, "cannot stream rows from int"), ({"text": "x"}, "cannot stream rows from dict"),
                            (array, "a JSON array, which cannot be streamed; write one object a line"),
                            (broken, r"not a whole gzip file, after row \d+"),
                            (tmp_path / "b.parquet", "not a Parquet file, or broken after row -1")):
        with pytest.raises(WhenceError, match=message):
            list(stream_rows(source)[1])
