"""Cells: named by content, made once, in the order of their needs; what fails does not take the rest along."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from whence.base.errors import WhenceError
from whence.base.files import read_json
from whence.study import engine
from whence.study.cell import KINDS, Cell, Kind, known_kind, with_needs
from whence.study.cost import Work, cost_of
from whence.study.engine import is_done, make_cell, make_cells, raise_failed
from whence.study.table import tidy

CALLS: list[str] = []


def add(options: Mapping[str, Any], folder: Path, needs: Sequence[Path]) -> list[dict[str, Any]]:
    """The option plus what the needs left."""
    CALLS.append(folder.name)
    if options["value"] == 13:
        raise WhenceError("thirteen is unlucky")
    if options["value"] == 14:
        raise ZeroDivisionError("a bug")
    total = float(options["value"] + sum(float((need / "total").read_text()) for need in needs))
    (folder / "total").write_text(str(total))
    return [{"metric": "total", "value": total}]


@pytest.fixture(autouse=True)
def kinds(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A kind that adds; and rounds made in this process, where it is known."""
    monkeypatch.setitem(KINDS, "add", Kind(add, lambda cell: Work(0.0, 1, 1.0, 1.0, extra=2.0)))
    CALLS.clear()

    def here(missing: Sequence[Cell], out: Path, workers: int, threads: int) -> list[engine.Failed]:
        failed: list[engine.Failed] = []
        for cell in missing:
            if all(is_done(need, out) for need in cell.needs) and (error := make_cell(cell, out)):
                failed.append(engine.Failed(cell, *error))
        return failed

    monkeypatch.setattr(engine, "_round", here)
    yield


def of(value: int, *needs: Cell) -> Cell:
    return Cell("add", {"value": value}, needs)


def test_a_key_says_what_decides_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    one = of(1)
    assert of(1).key == one.key and of(2).key != one.key
    assert of(3, one).key != of(3, of(2)).key
    assert Cell("add", {"a": 1, "b": 2}).key == Cell("add", {"b": 2, "a": 1}).key
    monkeypatch.setitem(KINDS, "add", Kind(add, lambda cell: None, version=2))
    assert of(1).key != one.key  # the code changed what comes out


def test_needs_come_first_and_what_is_shared_is_made_once(tmp_path: Path) -> None:
    one = of(1)
    last = of(4, of(2, one), of(3, one))
    assert [cell.options["value"] for cell in with_needs([last, one])] == [1, 2, 3, 4]
    assert make_cells([last], tmp_path, 1) == []
    assert (last.folder(tmp_path) / "total").read_text() == "11.0"
    assert len(CALLS) == 4
    assert make_cells([last, of(5, one)], tmp_path, 1) == [] and len(CALLS) == 5  # only the new one
    about = read_json(last.folder(tmp_path) / "cell.json")
    assert about["options"] == {"value": 4} and len(about["needs"]) == 2


def test_what_fails_is_told_at_the_end_and_the_rest_is_there(tmp_path: Path) -> None:
    bad, bug, good = of(13), of(14), of(1)
    failed = make_cells([of(2, bad), bug, of(3, good)], tmp_path, 1)
    assert sorted(one.cell.options["value"] for one in failed) == [13, 14]
    assert is_done(of(3, good), tmp_path) and not is_done(of(2, bad), tmp_path)
    with pytest.raises(WhenceError, match=r"2 cells failed; .* kept(.|\n)*thirteen is unlucky(.|\n)*Traceback"):
        raise_failed(failed, tmp_path)


def test_a_cell_without_rows_is_made_again(tmp_path: Path) -> None:
    cell = of(1)
    make_cells([cell], tmp_path, 1)
    (cell.folder(tmp_path) / "rows.parquet").unlink()  # as if it had been killed before its last act
    assert not is_done(cell, tmp_path)
    make_cells([cell], tmp_path, 1)
    assert is_done(cell, tmp_path) and len(CALLS) == 2


def test_workers_that_die_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "_round", lambda *_: [])
    with pytest.raises(WhenceError, match="1 cells are missing and the workers die"):
        make_cells([of(1)], tmp_path, 1)


def test_the_table_has_labels_and_rows(tmp_path: Path) -> None:
    cell = of(1)
    make_cells([cell], tmp_path, 1)
    labels = {"experiment": "e", "task": "t", "model": "m", "tune": "lora", "training": "x", "seed": 3}
    table = tidy([(labels, cell.key, cell.folder(tmp_path) / "rows.parquet")])
    assert table.to_dict("records")[0] | {"damping": None} == {
        **labels, "cell": cell.key, "scoring": "", "method": "", "step": -1, "damping": None, "query": -1,
        "metric": "total", "value": 1.0}


def test_costs_leave_out_what_is_there(tmp_path: Path) -> None:
    one = of(1)
    make_cells([one], tmp_path, 1)
    cost = cost_of([of(2, one)], lambda cell: is_done(cell, tmp_path))["add"]
    assert (cost.cells, cost.done, cost.seconds) == (2, 1, 2.0)


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(WhenceError, match="kind 'ad' is not known"):
        known_kind("ad")
