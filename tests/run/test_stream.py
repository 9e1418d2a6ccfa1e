"""`Run.search`: the dense path's best rows from a stream, in bounded memory, and the same bits after a kill."""

from __future__ import annotations

import gc
import json
import tracemalloc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.run.fixtures import QUERIES, ROWS, CopyRun, write_rows
from tests.run.killed import killed_in_the_middle
from whence.base.errors import WhenceError
from whence.base.files import read_json
from whence.curvature.products import solve_queries
from whence.data.examples import Examples
from whence.methods.registry import parse
from whence.run.best import Best, Extreme, Line
from whence.run.run import Run
from whence.run.search import Search
from whence.run.stream import STATE, Stream
from whence.sweep import sweep as sweep_room
from whence.views.tokens import token_influence

METHOD = "ekfac(rows=-1)"


def corpus(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows like the training rows, some of them equal."""
    rng = np.random.default_rng(seed)
    rows = [ROWS[i] for i in rng.integers(0, len(ROWS), count)]
    return [{"id": f"{seed}-{i}", "prompt": row["prompt"] * int(rng.integers(1, 3)), "completion": row["completion"],
             "group": row["group"]} for i, row in enumerate(rows)]


def dense(run: Run, rows: list[dict[str, Any]], queries: Examples, method: str = METHOD) -> np.ndarray:
    """Scores of a corpus by another route: whole vectors in float64, position by position, no products of batches."""
    (solution,), _ = solve_queries(run._situation(), queries, [parse(method).solver])
    whole = [vectors.whole().double() for vectors in solution.vectors]
    return token_influence(run.model, run.encode(rows), run.subject.blocks, whole, len(run.train)).totals


@pytest.fixture(scope="module")
def run(in_memory: Run) -> Run:
    return Run(in_memory.model, in_memory.tokenizer, in_memory.train)


@pytest.mark.parametrize("method", [METHOD, "gradient-dot", "kfac(rank=2)"])
def test_over_the_training_rows_it_is_the_dense_matrix(method: str, run: Run, queries: Examples) -> None:
    scores = run.score(queries, method)[method].values
    found = run.search(ROWS, queries, method, top=24, bottom=5)
    assert len(found) == 6 and (found.method, found.unit) == (method, run.score(queries, method)[method].unit)
    for q in range(6):
        order = np.argsort(-scores[q], kind="stable")
        assert [hit.row for hit in found.top(q)] == order.tolist()
        assert [hit.score for hit in found.top(q)] == scores[q][order].tolist()  # the same bits: one part, one layout
        assert [hit.row for hit in found.bottom(q)] == np.argsort(scores[q], kind="stable")[:5].tolist()
        assert [hit.rank for hit in found.top(q)] == list(range(1, 25))
        assert [hit.rank for hit in found.bottom(q)] == [24, 23, 22, 21, 20]
        best = found.top(q, 1)[0]
        row = ROWS[best.row]
        assert (best.id, best.group, best.prompt, best.response) == (row["id"], row["group"], row["prompt"],
                                                                    row["completion"])
    facts = run.score(queries, method)[method].facts
    assert found.facts == {name: value for name, value in facts.items() if name != "query_blocks"}


@pytest.mark.parametrize("shard_rows", [1, 7, 64])
def test_parts_of_any_size_keep_the_best_rows(shard_rows: int, run: Run, queries: Examples) -> None:
    rows = corpus(60)
    expected = dense(run, rows, queries)
    found = run.search(iter(rows), queries, METHOD, top=10, bottom=3, shard_rows=shard_rows)
    assert found.counts == {"read": 60, "scored": 60, "truncated": 0, "skipped": 0}
    for q in range(6):
        kept = np.array([hit.score for hit in found.top(q)])
        np.testing.assert_allclose(kept, np.sort(expected[q])[::-1][:10], rtol=1e-4)
        np.testing.assert_allclose(kept, expected[q][[hit.row for hit in found.top(q)]], rtol=1e-4)
        np.testing.assert_allclose([hit.score for hit in found.bottom(q)], np.sort(expected[q])[:3], rtol=1e-4)


def test_of_equal_scores_the_earlier_row_is_better_at_both_ends() -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(-2, 3, size=(4, 50)).astype(float)  # many ties
    for size in (1, 7, 50):
        best = Best.empty({}, 4, 6, 9)
        for start in range(0, 50, size):
            rows = np.arange(start, min(start + size, 50))
            best.update(scores[:, rows], rows, [Line(str(row), None, "", "") for row in rows])
        for end, k in ((best.top, 6), (best.bottom, 9)):
            order = np.argsort(-end.sign * scores, axis=1, kind="stable")[:, :k]
            np.testing.assert_array_equal(end.rows, order)
            np.testing.assert_array_equal(end.scores, np.take_along_axis(scores, order, axis=1))
        assert set(best.texts) == set(best.top.rows.flat) | set(best.bottom.rows.flat) and best.scored == 50


def test_files_and_objects_give_the_same(run: Run, queries: Examples, tmp_path: Path) -> None:
    rows = corpus(30)
    path = write_rows(tmp_path / "c.jsonl", rows)
    table = tmp_path / "c.parquet"
    pq.write_table(pa.Table.from_pylist(rows), table, row_group_size=7)
    found = [run.search(source, queries, METHOD, top=4, shard_rows=8).to_json()["queries"]
             for source in (rows, iter(rows), path, table)]
    assert found[0] == found[1] == found[2] == found[3]


class Watched(dict[str, Any]):
    """A row that can be watched as it goes."""

    __slots__ = ("__weakref__",)
    __hash__ = object.__hash__  # type: ignore[assignment]


def test_memory_does_not_grow_with_the_corpus(run: Run, queries: Examples) -> None:
    """At every 40th row of 640: how many rows, tensor bytes and traced bytes are alive."""
    shard, alive, seen = 40, weakref.WeakSet[Watched](), []

    def rows() -> Iterator[Watched]:
        for i, row in enumerate(corpus(640)):
            made = Watched(row)
            alive.add(made)
            if i % shard == 0:
                gc.collect()
                tensors = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes()
                           for t in gc.get_objects() if isinstance(t, torch.Tensor)}
                seen.append((len(alive), sum(tensors.values()), tracemalloc.get_traced_memory()[0]))
            yield made

    tracemalloc.start()
    try:
        found = run.search(rows(), queries, METHOD, top=5, shard_rows=shard)
    finally:
        tracemalloc.stop()
    assert found.counts["scored"] == 640 and len(seen) == 16
    assert max(count for count, _, _ in seen) <= shard + 1  # the part before, and the row being made
    tensors = [size for _, size, _ in seen[1:]]  # from the first part on the vectors are there
    vectors = 6 * sum(block.parameters for block in run.subject.blocks) * 4
    products = len(run.subject.blocks) * 6 * shard * 4
    assert max(tensors) - seen[0][1] <= vectors + products + (1 << 20)  # a batch's workspace is below that megabyte
    assert max(tensors[-5:]) <= max(tensors[:5])
    traced = [size for _, _, size in seen]
    # Had each part left its rows' tokens alone (9 bytes each) behind, the growth would be above this. A median: what
    # is made once and kept, on a slow machine at any time, is no growth.
    tokens = 9 * int(run.encode(corpus(640)).lengths.sum())
    assert float(np.median(np.diff(traced[4:]))) * len(traced) < tokens / 4


def test_bad_rows_stop_the_pass_or_are_counted(run: Run, queries: Examples, tmp_path: Path) -> None:
    rows = [*corpus(10), {"prompt": "x", "completion": ""}, *corpus(5, seed=1), {"prompt": "long " * 60,
                                                                               "completion": "y"}]
    path = write_rows(tmp_path / "c.jsonl", rows)
    with pytest.raises(WhenceError, match=r"c.jsonl, row 10 \(line 11\), column 'completion': is empty.* \(1 of 6 rows "
                                          r"read together cannot be used; on_bad='skip'"):
        run.search(path, queries, METHOD, shard_rows=6)
    said: list[str] = []
    found = run.search(path, queries, METHOD, top=3, shard_rows=6, on_bad="skip", say=said.append)
    assert found.counts == {"read": 17, "scored": 15, "truncated": 0, "skipped": 2}
    assert str(found) == "17 rows read: 15 scored (0 truncated), 2 skipped"
    assert "row 16 (line 17): " in found.listed[1] and "but the model has 48 positions" in found.listed[1]
    assert len(said) == 3 and said[-1] == f"{path}: 17 rows read, 15 scored, 0 truncated, 2 skipped"
    good = [rows[i] for i in range(17) if i not in (10, 16)]
    clean = run.search(good, queries, METHOD, top=3, shard_rows=17)
    for q in range(6):
        np.testing.assert_allclose([h.score for h in found.top(q)], [h.score for h in clean.top(q)], rtol=1e-4)
    longest = int(run.encode(good).lengths.max())
    cut = run.search(path, queries, METHOD, top=3, max_length=longest - 1, on_bad="skip")
    assert cut.counts["truncated"] > 0 and cut.counts["skipped"] == 2  # nothing is left of the long row's response
    with pytest.raises(WhenceError, match=r"none of its 1 rows can be used; the first: .*is empty"):
        run.search([rows[10]], queries, METHOD, on_bad="skip")


@pytest.mark.parametrize(("options", "message"), [
    ({"top": 0}, "expected at least 1 row to keep"),
    ({"shard_rows": 0}, "shard_rows=0: expected at least 1"),
    ({"on_bad": "drop"}, "on_bad=drop: expected stop or skip"),
    ({"columns": {"promt": "q"}}, "'promt' is not a field"),
    ({"method": "bm25"}, "method 'bm25': has no search in a corpus, .* these have: .*ekfac"),
    ({"method": "ekfak"}, "did you mean 'ekfac'"),
    ({"queries": []}, "no rows"),
    ({"rows": []}, "the rows given: no rows"),
    ({"rows": "nowhere.jsonl"}, "nowhere.jsonl: no such file"),
])
def test_mistakes_are_named(options: dict[str, Any], message: str, run: Run, queries: Examples) -> None:
    with pytest.raises(WhenceError, match=message):
        run.search(**{"rows": ROWS, "queries": queries, **options})


def test_vectors_that_do_not_fit_are_refused(in_memory: Run, queries: Examples) -> None:
    each = sum(block.parameters for block in in_memory.subject.blocks) * 4
    tight = Run(in_memory.model, in_memory.tokenizer, in_memory.train, memory=4 * each)
    with pytest.raises(WhenceError, match="the vectors of 6 queries do not fit in memory together, those of 3 do"):
        tight.search(ROWS, queries, METHOD)


def states(folder: Path) -> tuple[Any, dict[bytes, bytes]]:
    table = pq.read_table(folder / STATE)
    return table.to_pydict(), table.schema.metadata


def test_a_finished_search_is_read_and_a_longer_corpus_gone_on_with(run: Run, queries: Examples, tmp_path: Path,
                                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    rows, out = corpus(30), tmp_path / "out"
    how: dict[str, Any] = {"top": 4, "bottom": 2, "shard_rows": 8, "out": out}
    path = write_rows(tmp_path / "c.jsonl", rows[:20])
    first = run.search(path, queries, METHOD, **how)
    before = (out / STATE).read_bytes()
    swept: list[int] = []
    real = sweep_room.sweep
    for module in ("whence.curvature.products.sweep", "whence.run.solved.sweep"):
        monkeypatch.setattr(module, lambda model, examples, *rest, **options: (
            swept.append(len(examples)), real(model, examples, *rest, **options))[1])
    again = run.search(path, queries, METHOD, **how)
    assert swept == [] and again.to_json() == first.to_json() and (out / STATE).read_bytes() == before
    assert read_json(out / "search.json")["counts"]["read"] == 20
    write_rows(path, rows)
    grown = run.search(path, queries, METHOD, **how)
    assert swept == [6, 8, 2] and grown.counts["read"] == 30
    whole = run.search(rows, queries, METHOD, top=4, bottom=2)
    for q in range(6):
        np.testing.assert_allclose([h.score for h in grown.top(q)], [h.score for h in whole.top(q)], rtol=1e-4)


def test_another_search_or_corpus_is_refused(run: Run, queries: Examples, tmp_path: Path) -> None:
    rows, out = corpus(12), tmp_path / "out"
    run.search(rows, queries, METHOD, top=4, shard_rows=5, out=out)
    before = (out / STATE).read_bytes()
    for changed, named in (({"top": 5}, "top"), ({"shard_rows": 6}, "shard_rows"), ({"method": "kfac"}, "method"),
                           ({"queries": queries.select([0])}, "queries"), ({"max_length": 40}, "encoding"),
                           ({"on_bad": "skip"}, "on_bad")):
        with pytest.raises(WhenceError, match=f"holds a search with other {named}; call it as before"):
            run.search(**{"rows": rows, "queries": queries, "method": METHOD, "top": 4, "shard_rows": 5, "out": out,
                          **changed})
    for others in (rows[:-1], [*rows[:3], {**rows[3], "completion": "x"}, *rows[4:]]):
        with pytest.raises(WhenceError, match="was made from other rows than the first 12 of the rows given"):
            run.search(others, queries, METHOD, top=4, shard_rows=5, out=out)
    with torch.no_grad():
        run.subject.blocks[0].module.weight.mul_(2)
    try:
        with pytest.raises(WhenceError, match="holds a search with other weights"):
            run.search(rows, queries, METHOD, top=4, shard_rows=5, out=out)
    finally:
        with torch.no_grad():
            run.subject.blocks[0].module.weight.div_(2)
    assert (out / STATE).read_bytes() == before
    (out / STATE).write_text("no")
    with pytest.raises(WhenceError, match="not the state of a search"):
        run.search(rows, queries, METHOD, top=4, shard_rows=5, out=out)
    with pytest.raises(WhenceError, match="a file; expected the name of a folder"):
        run.search(rows, queries, METHOD, out=out / STATE)


# A search that stops in the middle of its fourth part, for somebody to kill it.
DRIVER = """
import sys, time, torch
torch.set_num_threads(1)
import whence.run.stream as stream
from whence.run.run import Run
real, parts = stream.score_examples, 0
def slow(*arguments):
    global parts
    if parts == 3:
        print("in the middle", flush=True)
        time.sleep(600)
    parts += 1
    return real(*arguments)
stream.score_examples = slow
run = Run.load(sys.argv[1])
run.search(sys.argv[2], sys.argv[3], METHOD, top=7, bottom=2, shard_rows=16, out=sys.argv[4])
""".replace("METHOD", repr(METHOD))


def test_killed_in_the_middle_it_ends_in_the_same_bits(copy_run: CopyRun, tmp_path: Path,
                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    folder, path = copy_run("lora"), write_rows(tmp_path / "c.jsonl", corpus(100))
    asked = write_rows(tmp_path / "q.jsonl", QUERIES)
    killed_in_the_middle(DRIVER, folder, path, asked, tmp_path / "out")
    assert json.loads(states(tmp_path / "out")[1][b"whence"])["read"] == 48
    assert not (tmp_path / "out" / "search.json").exists()
    swept: list[int] = []
    real = sweep_room.sweep
    monkeypatch.setattr("whence.run.solved.sweep", lambda model, examples, *rest, **options: (
        swept.append(len(examples)), real(model, examples, *rest, **options))[1])

    def searched(out: str) -> Search:
        return Run.load(folder).search(path, asked, METHOD, top=7, bottom=2, shard_rows=16, out=tmp_path / out)

    resumed = searched("out")
    assert swept == [16, 16, 16, 4]
    whole = searched("whole")
    assert resumed.to_json() == whole.to_json()
    assert states(tmp_path / "out") == states(tmp_path / "whole")
    assert isinstance(resumed._best.top, Extreme) and resumed._best.top.scores.shape == (6, 7)


def test_the_rules_of_a_stream_are_checked_at_once() -> None:
    with pytest.raises(WhenceError, match=r"top=-1, bottom=3"):
        Stream(top=-1, bottom=3)
