"""Reading labels: every format, and every mistake by file, line and row."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from whence.base.errors import WhenceError
from whence.tasks.labels import check_known, label_codes, read_labels, relevance


def jsonl(path, *records):
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in records), "utf-8")
    return path


def test_jsonl_plain_and_gzipped(tmp_path):
    file = jsonl(tmp_path / "a.jsonl", {"c": "x", "other": [1]}, {"c": 3}, {"c": True}, {"c": "zwölf"})
    packed = tmp_path / "a.jsonl.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    assert read_labels(file, "c") == read_labels(packed, "c") == ["x", "3", "true", "zwölf"]


def test_blank_lines_at_the_end_and_windows_line_ends_do_no_harm(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"c": "x"}\r\n{"c": "y"}\r\n\r\n\n')
    assert read_labels(file, "c") == ["x", "y"]


def test_parquet_by_column_and_by_a_runs_group(tmp_path):
    file = tmp_path / "train.parquet"
    pq.write_table(pa.table({"groups": ["x", "y"], "kind": [1, 2]}), file)
    assert read_labels(file, "group") == read_labels(str(file), "groups") == ["x", "y"]
    assert read_labels(file, "kind") == ["1", "2"]


@pytest.mark.parametrize(("records", "message"), [
    ([{"c": "x"}, {"d": 1, "b": 2}], r"a\.jsonl, line 2 \(row 1\): no field 'c'; available: 'b', 'd'"),
    ([{"c": "x"}, "{'c': 1}"], r"line 2 \(row 1\): not valid JSON"),
    ([{"c": "x"}, "", {"c": "y"}], r"line 2 \(row 1\): empty line"),
    (["[1]"], r"line 1 \(row 0\): a JSON list; expected an object"),
    ([{"c": None}], r"line 1 \(row 0\), field 'c': label None; expected text"),
    ([{"c": "x"}, {"c": ""}], r"line 2 \(row 1\), field 'c': label ''"),
    ([{"c": 1.5}], "label 1.5"),
    ([], "no rows"),
])
def test_mistakes_in_jsonl(tmp_path, records, message):
    with pytest.raises(WhenceError, match=message):
        read_labels(jsonl(tmp_path / "a.jsonl", *records), "c")


def test_mistakes_in_parquet(tmp_path):
    file = tmp_path / "a.parquet"
    pq.write_table(pa.table({"groups": ["x", None]}), file)
    with pytest.raises(WhenceError, match="row 1, column 'groups': label None"):
        read_labels(file, "group")
    with pytest.raises(WhenceError, match="no column 'c'; available: 'groups'"):
        read_labels(file, "c")
    file.write_bytes(b"no parquet")
    with pytest.raises(WhenceError, match="not a Parquet file"):
        read_labels(file, "c")
    with pytest.raises(WhenceError, match="no such file"):
        read_labels(tmp_path / "b.parquet", "c")


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(WhenceError, match=r"b\.jsonl: no such file"):
        read_labels(tmp_path / "b.jsonl", "c")
    packed = tmp_path / "a.jsonl"
    packed.write_bytes(gzip.compress(b"{}"))
    with pytest.raises(WhenceError, match=r"not UTF-8 text .*must have a name that ends in \.gz"):
        read_labels(packed, "c")
    plain = jsonl(tmp_path / "a.jsonl.gz", {"c": 1})
    with pytest.raises(WhenceError, match="cannot be read"):
        read_labels(plain, "c")
    with pytest.raises(WhenceError, match="cannot be read"):
        read_labels(tmp_path, "c")


def test_unknown_query_labels_are_counted_and_refused():
    check_known(["a", "b"], ["b", "b"])
    with pytest.raises(WhenceError, match=r"q\.jsonl: query row 1 has label 'x', which no row of t\.jsonl "
                                          r"has \(2 of 4 queries are affected\); known labels: 'a', 'b'"):
        check_known(["b", "a"], ["a", "x", "b", "y"], "t.jsonl", "q.jsonl")


def test_a_long_list_of_known_labels_is_cut_and_says_so():
    with pytest.raises(WhenceError, match="'c11' and 8 more"):
        check_known([f"c{i:02d}" for i in range(20)], ["x"])


def test_codes_and_relevance_agree_with_the_labels():
    train, query = ["b", "a", "b"], ["a", "b", "c"]
    codes, query_codes = label_codes(train, query)
    assert len({*codes.tolist(), *query_codes.tolist()}) == 3
    np.testing.assert_array_equal(relevance(train, query), [[0, 1, 0], [1, 0, 1], [0, 0, 0]])
