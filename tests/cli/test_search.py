"""`whence search`: what it prints and keeps."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.cli.typed import Shell, nothing_written
from tests.run.fixtures import QUERIES, ROWS, CopyRun, write_rows
from whence.run.run import Run


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "data").mkdir()
    rows = [{"q": row["prompt"], "a": row["completion"], "name": row["id"]} for row in ROWS]
    return (write_rows(tmp_path / "data" / "corpus.jsonl", [*rows[:9], {"q": "x"}, *rows[9:]]),
            write_rows(tmp_path / "data" / "q.jsonl", QUERIES[:2]))


def test_it_keeps_the_best_rows_and_says_what_it_skipped(shell: Shell, copy_run: CopyRun, files: tuple[Path, Path],
                                                         tmp_path: Path) -> None:
    run, (corpus, queries), out = copy_run("lora"), files, tmp_path / "[x]"
    words = ["search", run, corpus, "--queries", queries, "--top", 4, "--bottom", 1, "--out", out, "--columns",
             "prompt=q,completion=a,id=name", "--shard-rows", 10]
    with nothing_written(tmp_path / "data"):
        message = shell.refuses(*words)
    assert f"{corpus}, row 9 (line 10), column 'a' (completion): met no value" in message or (
        f"{corpus}: no column 'a' (wanted for completion)" in message)
    assert "--skip-bad, leaves such rows out" in message and not (out / "best.parquet").exists()
    typed = shell(*words, "--skip-bad")
    assert typed.code == 0 and typed.err.splitlines()[-1] == (
        f"{corpus}: 25 rows read, 24 scored, 0 truncated, 1 skipped")
    lines = typed.out.splitlines()
    assert "25 rows read: 24 scored (0 truncated), 1 skipped" in lines
    assert f"query {QUERIES[1]['id']}: ekfac" in typed.out
    assert lines[-1] == f"all that was kept: {out / 'best.parquet'}"
    assert any(line.startswith("skipped: ") for line in lines)
    value = json.loads(shell(*words, "--skip-bad", "--json").out)
    found = Run.load(run).search([{k: row[k] for k in ("id", "prompt", "completion")} for row in ROWS], QUERIES[:2],
                                 top=4, bottom=1)
    for query in range(2):
        shown = value["queries"][query]
        assert [hit["id"] for hit in shown["proponents"]] == [hit.id for hit in found.top(query)]
        assert [hit["id"] for hit in shown["opponents"]] == [hit.id for hit in found.bottom(query)]
        assert shown["proponents"][0]["score"] == pytest.approx(found.top(query)[0].score, rel=1e-4)
    assert value["counts"] == {"read": 25, "scored": 24, "truncated": 0, "skipped": 1} and value["method"] == "ekfac"
    assert len(pq.read_table(out / "best.parquet")) == 2 * (4 + 1)


def test_mistakes_are_named_and_leave_nothing(shell: Shell, copy_run: CopyRun, files: tuple[Path, Path],
                                              tmp_path: Path) -> None:
    run, (corpus, queries), out = copy_run("lora"), files, tmp_path / "out"
    words = ["search", run, corpus, "--queries", queries, "--out", out]
    with nothing_written(tmp_path):
        assert "gone.jsonl: no such file" in shell.refuses("search", run, tmp_path / "gone.jsonl", *words[3:])
        assert "fit no format" in shell.refuses(*words)
        assert "has no search in a corpus" in shell.refuses(*words, "--method", "bm25")
        assert "top=0, bottom=0: expected at least 1" in shell.refuses(*words, "--top", 0)
        assert "expected OURS=THEIRS" in shell.refuses(*words, "--columns", "q")
    assert shell("search", run, corpus, "--queries", queries).code == 2  # --out is missing
