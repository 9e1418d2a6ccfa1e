"""The house: imports between the rooms of `src/whence` go only downwards, and every room has its place."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "whence"
ROOMS = ("base", "scores", "data", "models", "measure", "train", "sweep", "curvature", "methods", "views", "plan",
         "tasks", "truth", "trust", "report", "run", "study", "cli")  # from the ground up; each may use those before it
NARROW = {"tasks": {"base", "scores", "data"}, "report": {"base", "scores", "data", "tasks"}}  # they know no model


def imported_rooms(source: str) -> Iterator[tuple[int, str]]:
    """(line, room) of every import of a room of whence, wherever in the source it stands.

    `import whence` and `from whence import X` give the room "": the front door, above all rooms.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            if node.level:
                raise AssertionError(f"line {node.lineno}: a relative import; write it from `whence` on")
            names = [node.module or ""]
            if node.module == "whence":  # `from whence import methods` is a room too
                names = [f"whence.{alias.name}" if alias.name in ROOMS else "whence" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            if name == "whence" or name.startswith("whence."):
                yield node.lineno, name.removeprefix("whence").removeprefix(".").split(".")[0]


def faults(room: str, source: str) -> list[str]:
    """The imports of a file in `room` that go upwards, or beyond what the room may use."""
    allowed = NARROW.get(room, set(ROOMS[: ROOMS.index(room)])) | {room}
    return [f"line {line}: {room} uses {other or 'whence itself'}"
            for line, other in imported_rooms(source) if other not in allowed]


def test_every_room_has_its_place() -> None:
    rooms = {folder.name for folder in PACKAGE.iterdir() if (folder / "__init__.py").exists()}
    assert rooms == set(ROOMS), "list a new room in ROOMS, and in CONTRIBUTING.md"
    assert {path.name for path in PACKAGE.glob("*.py")} == {"__init__.py"}, "a file of its own belongs in a room"


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_only_downwards(room: str) -> None:
    paths = sorted((PACKAGE / room).rglob("*.py"))
    assert paths
    found = {str(path.relative_to(PACKAGE)): faults(room, path.read_text()) for path in paths}
    assert not {path: lines for path, lines in found.items() if lines}


@pytest.mark.parametrize(("room", "line", "bad"), [
    ("sweep", "from whence.models.blocks import Block", False),
    ("sweep", "def f():\n    from whence.methods import fisher", True),  # a late import is an import too
    ("data", "import whence.models.load as load", True),
    ("run", "from whence import cli", True),
    ("run", "from whence import Run", True),
    ("tasks", "from whence.scores.matrix import Scores", False),
    ("tasks", "from whence.models.blocks import Block", True),
    ("methods", "import numpy", False),
])
def test_an_upward_import_is_seen(room: str, line: str, bad: bool) -> None:
    assert bool(faults(room, line)) is bad


def test_contributing_lists_the_rooms_from_the_top_down() -> None:
    text = (PACKAGE.parents[1] / "CONTRIBUTING.md").read_text()
    listed = [line.split("|")[1].strip(" `/") for line in text.splitlines() if line.startswith("| `")]
    assert [name for name in listed if name in ROOMS] == list(reversed(ROOMS))
