"""`whence train` on a model and data in files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from whence.base.errors import WhenceError
from whence.cli.train import train
from whence.models.build import build_model, save, train_tokenizer

ROWS = [{"name": f"r{i}", "question": f"What is {i} + 1?", "answer": f"It is {i + 1}."} for i in range(10)]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    tokenizer = train_tokenizer([row["question"] + row["answer"] for row in ROWS], vocab_size=300)
    save(build_model("llama", tokenizer, width=16, layers=1, heads=2, context=64), tokenizer, folder / "base")
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return folder


def call(files: Path, out: Path, *options: str):
    app = typer.Typer()
    app.command()(train)
    arguments = [str(files / "base"), str(files / "data.jsonl"), "--out", str(out),
                 "--columns", "prompt=question,completion=answer,id=name", *options]
    return CliRunner().invoke(app, arguments)


def test_it_prints_counts_trains_and_does_nothing_the_second_time(files: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ("--epochs", "2", "--batch-size", "4", "--max-length", "40", "--rank", "2",
               "--checkpoints", "1", "--targets", "q_proj", "--targets", "v_proj", "--clip-norm", "0",
               "--reduction", "example")
    result = call(files, out, *options)
    assert result.exit_code == 0, result.output
    first, last = result.output.splitlines()
    assert first.startswith("data: 10/10 rows used; 10 examples") and "0 truncated" in first
    assert last.startswith("trained 6 steps in ") and last.endswith(f"run: {out}")

    record = json.loads((out / "run.json").read_text())
    asked = record["config"]["recipe"]
    assert (asked["epochs"], asked["batch_size"], asked["rank"], asked["clip_norm"]) == (2, 4, 2, None)
    assert (asked["targets"], asked["reduction"]) == (["q_proj", "v_proj"], "example")
    assert record["config"]["model"] == str(files / "base")
    assert record["config"]["data"]["columns"] == {"prompt": "question", "completion": "answer", "id": "name"}
    assert record["config"]["data"]["source"] == str(files / "data.jsonl")
    assert record["config"]["data"]["max_length"] == 40
    assert (out / "adapter" / "adapter_model.safetensors").exists()

    again = call(files, out, *options, "--json")
    answer = json.loads(again.stdout)
    assert answer["already_trained"] and answer["record"] == record
    third = call(files, out, *options).output
    assert third.splitlines()[-1] == f"{out}: already trained (6 steps); nothing to do"


def test_truncated_rows_are_counted(files: Path, tmp_path: Path) -> None:
    result = call(files, tmp_path, "--tune", "full", "--max-steps", "1", "--max-length", "12", "--json")
    assert result.exit_code == 0, result.output
    record = json.loads(result.stdout)["record"]
    assert (record["counts"]["truncated"], record["counts"]["longest"]) == (10, 12)
    assert "10 truncated at 12" in result.stderr
    assert (tmp_path / "model" / "model.safetensors").exists()


@pytest.mark.parametrize(("options", "message"), [
    (("--tune", "full", "--rank", "2"), "rank is LoRA's"),
    (("--epochs", "1", "--max-steps", "2"), "expected one of them"),
    (("--lr", "-1"), "learning_rate is -1.0"),
    (("--targets", "c_attn"), "'c_attn' matches no linear layer"),
    (("--max-length", "3"), "nothing of it is left at max_length 3"),
])
def test_mistakes_are_the_users(options: tuple[str, ...], message: str, files: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    result = call(files, out, *options)
    assert isinstance(result.exception, WhenceError) and message in str(result.exception)
    assert not out.exists()
