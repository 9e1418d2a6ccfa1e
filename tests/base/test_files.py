"""Atomic writing: whole or not at all, whatever goes wrong half-way; broken JSON is named."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from whence.base.errors import WhenceError
from whence.base.files import atomic_file, atomic_folder, read_json, write_json


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_whole_and_not_before(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "down" / "x.txt"
    with atomic_file(path) as part:
        part.write_text("new")
        assert part.parent == path.parent  # a rename across file systems would not be atomic
        assert not path.exists()
    assert path.read_text() == "new" and names(path.parent) == ["x.txt"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_file(path) as part:
        part.write_text("half of the n")
        raise ZeroDivisionError
    assert path.read_text() == "old" and names(tmp_path) == ["x.txt"]
    with pytest.raises(ZeroDivisionError), atomic_file(tmp_path / "y.txt"):
        raise ZeroDivisionError  # before anything is written
    assert names(tmp_path) == ["x.txt"]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "out"
    for content in ("one", "two"):
        with atomic_folder(path) as part:
            (part / content).write_text(content)
            assert not (path / content).exists()
        assert names(path) == [content]  # nothing of the folder before is left in it
    assert names(tmp_path) == ["out"]


def test_an_error_leaves_the_old_folder_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with atomic_folder(path) as part:
        (part / "a").write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_folder(path) as part:
        (part / "a").write_text("new")
        raise ZeroDivisionError
    assert (path / "a").read_text() == "old" and names(tmp_path) == ["out"]


def test_a_folder_that_is_replaced_is_never_half_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies while it removes the old folder leaves the new one in its place, whole."""
    class Killed(BaseException):
        pass

    def dies(folder: Path, **options: object) -> None:
        if folder.exists():
            next(folder.iterdir()).unlink()
            raise Killed

    def fill(content: str) -> None:
        with atomic_folder(tmp_path / "out") as part:
            for name in "ab":
                (part / name).write_text(content)

    fill("old")
    monkeypatch.setattr(shutil, "rmtree", dies)
    with pytest.raises(Killed):
        fill("new")
    assert [(path.name, path.read_text()) for path in sorted((tmp_path / "out").iterdir())] == [
        ("a", "new"), ("b", "new")]


def test_what_a_killed_process_left_is_in_nobodys_way(tmp_path: Path) -> None:
    left = tmp_path / f".out.{os.getpid()}.part"
    (left / "junk").mkdir(parents=True)
    old = tmp_path / f".out.{os.getpid()}.old"
    (old / "junk").mkdir(parents=True)
    for content in ("one", "two"):
        with atomic_folder(tmp_path / "out") as part:
            assert names(part) == []
            (part / content).write_text(content)
    assert names(tmp_path) == ["out"] and names(tmp_path / "out") == ["two"]


def test_a_place_that_cannot_be_written_is_named_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    with pytest.raises(WhenceError, match=r"folder: a folder; expected the name of a file"), \
            atomic_file(tmp_path / "folder"):
        pytest.fail("the work was begun")
    with pytest.raises(WhenceError, match=r"file: a file; expected the name of a folder"), \
            atomic_folder(tmp_path / "file"):
        pytest.fail("the work was begun")
    for atomic in (atomic_file, atomic_folder):
        with pytest.raises(WhenceError, match=r"x: its folder cannot be made \(.*file"), \
                atomic(tmp_path / "file" / "x"):
            pytest.fail("the work was begun")
    with pytest.raises(WhenceError, match="expected the name of a file"), atomic_file(""):
        pytest.fail("the work was begun")
    assert (tmp_path / "file").read_text() == "mine" and names(tmp_path) == ["file", "folder"]


def test_json_comes_back_and_what_json_has_not_is_refused(tmp_path: Path) -> None:
    value = {"é": [1, 0.1, None, True], "nested": {"x": "🙂\n"}}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "x.json", {"bad": float("nan")})
    with pytest.raises(TypeError):
        write_json(tmp_path / "y.json", {"bad": object()})
    assert read_json(tmp_path / "x.json") == value and names(tmp_path) == ["x.json"]


@pytest.mark.parametrize(("content", "message"), [
    (None, r"x\.json: no such file"),
    (b'{"a": 1,\n "b": }', r"x\.json: not valid JSON \(line 2: "),
    (b"", r"x\.json: not valid JSON \(line 1: "),
    (b'{"a": "\xff"}', r"x\.json: not UTF-8 text \(.* at byte 7\)"),
])
def test_unreadable_json_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(WhenceError, match=message):
        read_json(tmp_path / "x.json")


def test_a_folder_or_a_file_in_place_of_a_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(WhenceError, match="cannot be read"):
        read_json(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(WhenceError, match=r"file/run\.json: cannot be read \(Not a directory\)"):
        read_json(tmp_path / "file" / "run.json")
