"""Rows from every kind of source, and what is said of a broken one."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict

from whence.base.errors import WhenceError
from whence.data.encode import load_examples
from whence.data.read import read_rows
from whence.data.rows import parse_columns

RECORDS = [{"q": "the question is", "a": " whether", "kind": "x"},
           {"q": "hello", "a": " world", "kind": None}]
COLUMNS = {"prompt": "q", "completion": "a", "group": "kind"}
LINES = "".join(json.dumps(record) + "\n" for record in RECORDS).encode()


def written(folder: Path, kind: str) -> object:
    """`RECORDS` as a source of the given kind."""
    file, dataset = folder / kind, Dataset.from_list(RECORDS)
    if kind in ("rows.jsonl", "rows.json"):
        file.write_bytes(LINES)
    elif kind in ("rows.jsonl.gz", "rows.json.gz"):
        file.write_bytes(gzip.compress(LINES))
    elif kind == "array.json":
        file.write_text(json.dumps(RECORDS, indent=1))
    elif kind == "rows.parquet":
        pq.write_table(pa.Table.from_pylist(RECORDS), file)
    elif kind == "saved":
        dataset.save_to_disk(file)
    elif kind == "splits:train":
        DatasetDict(train=dataset, test=dataset.select([0])).save_to_disk(folder / "splits")
    elif kind == "dataset":
        return dataset.with_format("numpy")
    elif kind == "list":
        return RECORDS
    return str(file)


KINDS = ["rows.jsonl", "rows.json", "rows.jsonl.gz", "rows.json.gz", "array.json", "rows.parquet", "saved",
         "splits:train", "dataset", "list"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_source_gives_the_same_examples(kind: str, tmp_path: Path, tokenizer: Any) -> None:
    examples = load_examples(written(tmp_path, kind), tokenizer, columns=COLUMNS)
    assert examples.prompts == ("the question is", "hello")
    assert examples.responses == (" whether", " world")
    assert examples.groups == ("x", None)
    assert examples.content_hash == load_examples(RECORDS, tokenizer, columns=COLUMNS).content_hash


def test_a_dataset_that_was_reordered_is_read_in_its_new_order() -> None:
    dataset = Dataset.from_list([{"text": str(i)} for i in range(5)]).select([3, 1])
    assert read_rows(dataset).columns["text"] == ["3", "1"]


def test_splits_by_argument_and_by_name(tmp_path: Path) -> None:
    path = str(written(tmp_path, "splits:train")).removesuffix(":train")
    assert len(read_rows(path, split="test")) == len(read_rows(path + ":test")) == 1
    both = DatasetDict(train=Dataset.from_list(RECORDS))
    assert len(read_rows(both, split="train")) == 2
    with pytest.raises(WhenceError, match="the dataset given: has the splits train; say which"):
        read_rows(both)
    with pytest.raises(WhenceError, match="splits: has the splits train, test; say which with FOLDER:SPLIT"):
        read_rows(path)
    with pytest.raises(WhenceError, match=r"no split 'tran' \(did you mean 'train'\?\); the splits"):
        read_rows(path + ":tran")
    with pytest.raises(WhenceError, match="names the split 'test', but split 'train' is asked for too"):
        read_rows(path + ":test", split="train")


@pytest.mark.parametrize("kind", ["rows.jsonl", "saved", "dataset", "list"])
def test_a_split_of_what_has_none_is_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(WhenceError, match="split 'train' is asked for, but it has no splits"):
        read_rows(written(tmp_path, kind), split="train")


def test_a_split_of_a_file_by_name_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "rows.jsonl")
    with pytest.raises(WhenceError, match=r"rows.jsonl: split 'train' is asked for, but it has no splits"):
        read_rows(f"{path}:train")


def test_a_name_with_a_colon_is_a_name(tmp_path: Path) -> None:
    (tmp_path / "a:b.jsonl").write_bytes(LINES)
    assert len(read_rows(tmp_path / "a:b.jsonl")) == 2


def test_blank_lines_count_as_lines_and_odd_characters_do_not_break_them(tmp_path: Path) -> None:
    file = tmp_path / "x.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + '\n{"text": "a\u2028b"}\r\n\n{"text": "c"}'.encode())
    rows = read_rows(file)
    assert rows.columns == {"text": ["a\u2028b", "c"]}
    assert rows.where(1) == f"{file}, row 1 (line 4)"


@pytest.mark.parametrize(("name", "content", "message"), [
    ("x.jsonl", b'{"text": "a"}\n\n{"text": \n',
     r"x.jsonl, row 1 \(line 3\): not valid JSON \(Expecting value at character 10\); expected one"),
    ("x.jsonl", b'{"text": "a"}\n"b"\n',
     r"row 1 \(line 2\): met str 'b'; expected an object such as \{\"prompt\""),
    ("x.jsonl", b'[{"text": "a"}]', r"row 0 \(line 1\): met list"),
    ("x.json", b'[{"text": "a"}, 3]', r"x.json, row 1: met int 3; expected an object"),
    ("x.json", b'[{"text": "a"}, ', r"x.json: not valid JSON"),
    ("x.jsonl", b'{"text": "a"}\n{"text": "\xff"}',
     r"row 1 \(line 2\): not UTF-8 \(invalid start byte at byte 10\)"),
    ("x.jsonl", b"\n\n", r"x.jsonl: no rows"),
    ("x.jsonl", b"{}\n{}", r"x.jsonl: the rows have no columns"),
    ("x.jsonl.gz", b'{"text": "a"}', r"x.jsonl.gz: not a whole gzip file"),
    ("x.jsonl.gz", gzip.compress(LINES, mtime=0)[:-12], r"x.jsonl.gz: not a whole gzip file"),
    ("x.parquet", b"PAR0", r"x.parquet: not a Parquet file"),
    ("x.csv", b"text\na\n", r"x.csv: unknown kind of file; expected .jsonl, .json \(each also .gz\), "),
])
def test_broken_files_are_named(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WhenceError, match=message):
        read_rows(tmp_path / name)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(WhenceError, match=r"nowhere.jsonl: no such file or folder"):
        read_rows(tmp_path / "nowhere.jsonl")
    with pytest.raises(WhenceError, match=r"not a folder written by datasets.save_to_disk"):
        read_rows(tmp_path)
    with pytest.raises(WhenceError, match=r"cannot read rows from int; expected a path"):
        read_rows(3)
    with pytest.raises(WhenceError, match="the list given: no rows"):
        read_rows([])
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "none.parquet")
    with pytest.raises(WhenceError, match=r"none.parquet: no rows"):
        read_rows(tmp_path / "none.parquet")


def test_columns_as_written_on_a_command_line() -> None:
    assert parse_columns("prompt=prompts, group = response") == {"prompt": "prompts", "group": "response"}
    for text in ("prompt", "prompt=", "=a", "prompt=a,", ""):
        with pytest.raises(WhenceError, match="expected OURS=THEIRS, such as prompt=question"):
            parse_columns(text)
    with pytest.raises(WhenceError, match=r"'prompt' is given twice \('a' and 'b'\)"):
        parse_columns("prompt=a,prompt=b")


def test_a_mapping_that_does_not_fit_is_refused() -> None:
    with pytest.raises(WhenceError, match=r"'promt' is not a field \(did you mean 'prompt'\?\); expected "
                                          r"OURS=THEIRS with OURS one of text, prompt, completion, "):
        read_rows(RECORDS, {"promt": "q"})
    with pytest.raises(WhenceError, match=r"the list given: no column 'kinds' \(wanted for group\) \(did you "
                                          r"mean 'kind'\?\); the columns are q, a, kind\. .* group=COLUMN"):
        read_rows(RECORDS, {"group": "kinds"})


def test_one_column_may_serve_twice() -> None:
    rows = read_rows([{"prompt": "a", "completion": "b"}], {"group": "completion"})
    assert rows.groups() == ("b",)
    assert rows.columns["completion"] == ["b"]


def test_published_data(shared_data: Path, tokenizer: Any) -> None:
    columns = parse_columns("prompt=prompts,completion=response,group=variation")
    examples = load_examples(shared_data / "li2024" / "grammars.train.jsonl", tokenizer, columns=columns,
                             template="{prompt}\n{completion}")
    assert len(examples) == 900
    counts = {group: examples.groups.count(group) for group in examples.groups}
    assert list(counts.values()) == [90] * 10
    for row in (0, 500, 899):
        response = tokenizer.decode(examples.tokens[row][examples.is_response[row]])
        assert response == examples.responses[row] + "</s>"
