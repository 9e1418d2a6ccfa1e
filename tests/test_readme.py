"""The documents do not drift: their code runs, their commands parse and their lists are whole.

`whence-demo/` of the README's examples is a tiny stand-in here: same files, a model of one small layer.
"""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import whence
from whence.cli.app import app
from whence.methods.catalogue import DEFAULT
from whence.methods.registry import METHODS
from whence.models.build import build_model, save, train_tokenizer
from whence.tasks.synthetic import make_task, write_task

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
OURS = [name for name, entry in METHODS.items() if entry.function.__module__.startswith("whence.")]


def blocks(text: str, language: str) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def section(text: str, heading: str) -> str:
    """From a second-level heading to the next."""
    return text.split(f"\n## {heading}\n")[1].split("\n## ")[0]


def commands(text: str, program: str) -> list[str]:
    """Every line of the shell blocks that calls `program`, lines that end in a backslash joined."""
    lines = "\n".join(blocks(text, "sh")).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.split(" ", 1)[0] == program]


def words(command: str) -> list[str]:
    """The arguments bash would hand to `whence`."""
    script = "whence() { printf '%s\\0' \"$@\"; }\n" + command
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, cwd="/")
    return done.stdout.split("\0")[:-1]


@pytest.fixture(scope="module")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds `whence-demo/` with `base`, `data` and `run`."""
    folder = tmp_path_factory.mktemp("readme")
    demo = folder / "whence-demo"
    task = make_task("grammar", n_classes=3, train_per_class=4, queries_per_class=2)
    write_task(task, demo / "data")
    tokenizer = train_tokenizer([row["prompt"] for row in task.train], 300)
    save(build_model("llama", tokenizer, width=16, layers=1, heads=2, context=256), tokenizer, demo / "base")
    whence.fine_tune(demo / "base", demo / "data" / "train.jsonl", demo / "run", whence.Recipe(rank=2, epochs=1))
    return folder


@pytest.fixture
def here(demo_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, as the working directory."""
    monkeypatch.chdir(demo_folder)
    return demo_folder


def test_the_python_example_runs_and_is_short(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = blocks(section(README, "In Python"), "python")
    assert len([line for line in example.splitlines() if line.strip()]) <= 12
    exec(compile(example, "README.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if " nats  " in line and "Rule?" in line]) == 3
    assert [line.split("|")[1].strip() for line in lines if line.startswith("| ")] == [
        "method", "fisher", "datainf", "bm25", "chance"]
    assert "reverse words" in (here / "answer.html").read_text()


def test_the_example_of_a_method_runs(here: Path) -> None:
    (example,) = blocks(section(README, "Adding a method"), "python")
    names: dict[str, object] = {}
    try:
        exec(compile(example, "README.md", "exec"), names)
    finally:
        METHODS.pop("gradient-per-norm", None)
    scored = names["scored"]
    assert isinstance(scored["gradient-per-norm"], whence.Scores)
    assert scored["gradient-per-norm"].values.shape == (6, 12)
    assert scored["gradient-per-norm"].unit == "nats per unit length"


def test_the_example_of_a_bank_runs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = blocks((ROOT / "docs" / "truth.md").read_text(), "python")
    names: dict[str, object] = {}
    exec(compile(example, "truth.md", "exec"), names)
    out = capsys.readouterr().out
    assert "'ekfac': Estimate(" in out and "LeaveOut(pearson=" in out
    assert len(list((here / "whence-demo" / "run" / "truth" / "members").glob("*.npz"))) == 16 + 1 + 4


def test_the_example_of_a_card_runs(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (example,) = blocks((ROOT / "docs" / "trust.md").read_text(), "python")
    names: dict[str, Any] = {}
    exec(compile(example, "trust.md", "exec"), names)
    assert names["card"].verdict.answer != "believe"  # free dials alone
    assert f"{names['card'].verdict} {names['card'].answers}" in capsys.readouterr().out
    table = (ROOT / "docs" / "trust.md").read_text().split("## Dials")[1]
    for dial in names["card"].dials:
        assert f"| {dial.name}" in table or dial.name in table, f"docs/trust.md has no line for {dial.name}"


@pytest.mark.parametrize(("document", "command"), [
    (path.name, command) for path in DOCUMENTS for command in commands(path.read_text(), "whence")])
def test_every_command_parses(document: str, command: str) -> None:
    group = typer.main.get_command(app)
    verb, *options = words(command)
    assert verb in group.commands, f"{document}: no command {verb!r}"
    group.commands[verb].make_context(verb, options)  # a usage error if an option or a value is not known


def test_every_command_has_its_line() -> None:
    shown = {words(command)[0] for command in commands(section(README, "On the command line"), "whence")}
    assert shown == set(typer.main.get_command(app).commands)


def test_the_commands_run_one_after_the_other(here: Path) -> None:
    block = blocks(section(README, "On the command line"), "sh")[0]
    ran = []
    for command in commands(f"```sh\n{block}```\n", "whence"):
        verb, *options = words(command)
        if verb == "demo":
            continue  # takes minutes, and has a test of its own
        result = CliRunner().invoke(app, [verb, *options])
        assert result.exit_code == 0, f"{command}\n{result.output}\n{result.exception!r}"
        ran.append(verb)
    assert ran == ["train", "plan", "score", "trace", "verify", "search", "probe", "evaluate", "study", "blocks", "env"]
    assert (here / "runs" / "mine" / "report.html").exists()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_make_targets_and_links_exist(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    text = path.read_text()
    named = {line.split()[1] for line in commands(text, "make")} | set(re.findall(r"`make ([a-z-]+)", text))
    assert named <= targets
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert (path.parent / link).exists(), f"{path.name} links to {link}"


def test_the_method_lists_are_whole() -> None:
    rows = re.findall(r"^\| `([a-z0-9-]+)` \|", section(README, "Methods"), re.MULTILINE)
    assert len(rows) == len(set(rows)) and set(rows) == set(OURS)
    defaults = re.findall(r"^\| `(.*?)` \|.*; the default \|$", section(README, "Methods"), re.MULTILINE)
    assert defaults == [DEFAULT]
    headings = re.findall(r"^### `([a-z0-9-]+)`", (ROOT / "docs" / "methods.md").read_text(), re.MULTILINE)
    assert headings == rows


def test_the_index_of_the_documents_is_whole() -> None:
    docs = ROOT / "docs"
    index = (docs / "README.md").read_text()
    pages = {str(path.relative_to(docs)) for path in docs.rglob("*.md")} - {"README.md"}
    assert set(re.findall(r"^\| \[.*?\]\(([^)#]+\.md)\)", index, re.MULTILINE)) == pages


def test_constraints_pin_every_direct_dependency_exactly() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines()
                  if not line.startswith("#"))
    names = {name.lower().replace("_", "-") for name in pinned}
    assert {re.split(r"[<>=\[ ]", one)[0].lower() for one in asked} <= names
    assert pinned["torch"] == "2.13.0"
