"""Reading score matrices: ours, `.npy`, and CSVs as published, with every fault named."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whence.base.errors import WhenceError
from whence.scores.matrix import Scores
from whence.scores.published import read_scores

GOOD = "0,1,2\n0,-1.5,2,3e-2\n1,4,-5.25,6\n"
VALUES = [[-1.5, 2.0, 0.03], [4.0, -5.25, 6.0]]


def write(tmp_path, text, name="s.csv"):
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


@pytest.mark.parametrize("name", ["s.csv", "s.csv.gz"])
def test_published_csv_is_negated_unless_told_otherwise(tmp_path, name):
    path = write(tmp_path, GOOD, name)
    scores = read_scores(path)
    np.testing.assert_array_equal(scores.values, -np.array(VALUES))
    assert scores.values.dtype == np.float64
    assert scores.method == "s"
    assert scores.facts == {"file": name, "most_influential_in_file": "lowest"}
    np.testing.assert_array_equal(read_scores(str(path), most_influential="highest").values, VALUES)


@pytest.mark.parametrize("text", [
    "," + GOOD,
    "index," + GOOD,
    "Unnamed: 0," + GOOD,
    '"query_id","0","1","2"\n"0","-1.5",2,3e-2\n"1",4,-5.25,6\n',
    GOOD.replace("\n", "\r\n"),
    "\ufeff" + GOOD,
    GOOD + "\n\n",
    GOOD.replace("0,1,2\n", "a,b,c\n").replace("0,-1.5", "q7,-1.5"),
    GOOD.replace("0,1,2\n", "10,30,20\n"),
], ids=["empty name", "index", "pandas", "quoted", "crlf", "bom", "blank end", "text names", "subset"])
def test_other_csvs_whose_meaning_is_certain(tmp_path, text):
    np.testing.assert_array_equal(read_scores(write(tmp_path, text)).values, -np.array(VALUES))


@pytest.mark.parametrize(("text", "message"), [
    ("", r"s\.csv: empty"),
    ("0,1\n", "a header and no rows"),
    ("0,1,2,3\n0,1,2,3\n", "line 1: .* as many names as line 2 has fields .*'0'.*call it 'index'"),
    ("0,1\n0,1,2,3,4\n", "line 2: 5 fields under a header of 2 names"),
    ("0,1\n0,1,2\n1,1\n", r"line 3 \(query row 1\): 2 fields; expected 3"),
    ("0,1\n0,1,2\n1,1,2,3\n", r"line 3 \(query row 1\): 4 fields; expected 3"),
    ("0,1\n0,1,2\n\n1,1,x\n", r"line 4 \(query row 1\), column '1' \(field 3\): 'x' is not a finite number"),
    ("a,b\n0,1,2\n1,,2\n", r"line 3 \(query row 1\), column 'a' \(field 2\): '' is not a finite number"),
    ("0,1\n0,nan,2\n1,1,2\n", r"line 2 \(query row 0\), column '0' \(field 2\): 'nan'"),
    ("0,1\n0,1,-inf\n", r"column '1' \(field 3\): '-inf'"),
    ("0,2,1\n0,1,2,3\n", "columns are out of order: place 1 is named 2"),
    ("0,1\n1,1,2\n0,1,2\n", "rows are out of order: place 0 is named 1"),
    ("0,0\n0,1,2\n", "training row names must be unique, but '0' is there again at place 1"),
    ("0,1\n5,1,2\n5,1,2\n", "query indices must be unique, but '5'"),
    ("index\n0\n", "line 1: no training columns"),
])
def test_faults_in_a_csv_are_named(tmp_path, text, message):
    with pytest.raises(WhenceError, match=message):
        read_scores(write(tmp_path, text))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=3),
                min_size=1, max_size=4))
def test_every_number_is_read_back_exactly(tmp_path_factory, rows):
    text = "0,1,2\n" + "".join(f"{q}," + ",".join(map(repr, row)) + "\n" for q, row in enumerate(rows))
    path = write(tmp_path_factory.mktemp("csv"), text)
    np.testing.assert_array_equal(read_scores(path, "highest").values, rows)


def test_npy_is_in_our_convention_unless_told_otherwise(tmp_path):
    path = tmp_path / "m.npy"
    np.save(path, np.array(VALUES, dtype=np.float32))
    np.testing.assert_array_equal(read_scores(path).values, np.array(VALUES, dtype=np.float32))
    np.testing.assert_array_equal(read_scores(path, "lowest").values, -np.array(VALUES, dtype=np.float32))


def test_faults_in_a_npy_are_named(tmp_path):
    path = tmp_path / "m.npy"
    np.save(path, np.array([[1.0, 2.0], [3.0, np.nan]]))
    with pytest.raises(WhenceError, match=r"query row 1, column 1 is nan; 1 of 4 values"):
        read_scores(path)
    np.save(path, np.zeros(3))
    with pytest.raises(WhenceError, match=r"holds float64 of shape \(3,\)"):
        read_scores(path)
    np.save(path, np.array([["a"]]))
    with pytest.raises(WhenceError, match="expected real numbers"):
        read_scores(path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(WhenceError, match=r"not a \.npy file"):
        read_scores(path)
    with pytest.raises(WhenceError, match=r"n\.npy: no such file"):
        read_scores(tmp_path / "n.npy")


def test_our_own_folder_and_its_sign(tmp_path):
    Scores(np.array(VALUES), "graddot", facts={"n": 3}).write(tmp_path / "s")
    scores = read_scores(tmp_path / "s")
    np.testing.assert_array_equal(scores.values, VALUES)
    assert (scores.method, scores.facts) == ("graddot", {"n": 3})
    with pytest.raises(WhenceError, match="our own scores state their sign"):
        read_scores(tmp_path / "s", "lowest")


def test_what_is_no_score_file(tmp_path):
    with pytest.raises(WhenceError, match=r"a folder without scores\.json"):
        read_scores(tmp_path)
    with pytest.raises(WhenceError, match="not a kind of score file we read"):
        read_scores(write(tmp_path, GOOD, "s.txt"))
    with pytest.raises(WhenceError, match=r"s\.tsv: no such file or folder"):
        read_scores(tmp_path / "s.tsv")
    with pytest.raises(WhenceError, match=r"t\.csv: no such file"):
        read_scores(tmp_path / "t.csv")


def test_a_real_published_file(shared_data):
    path = shared_data / "li2024" / "scores" / "llama2-7b-chat.grammars_10_gmatch.csv.gz"
    scores = read_scores(path)
    assert scores.values.shape == (100, 900)
    with gzip.open(path, "rt") as file:
        line = file.readlines()[42].strip().split(",")
    np.testing.assert_array_equal(scores.values[41], [-float(x) for x in line[1:]])
