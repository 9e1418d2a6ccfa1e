"""The `whence` command: its verbs, its exit codes, and every kind of bad input with its message."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.typed import Shell, nothing_written
from tests.run.fixtures import (
    QUERIES,
    ROWS,
    CopyRun,
    change_json,
    change_weights,
    point_to_base,
    write_rows,
)
from whence.cli import app as app_file

VERBS = ("demo", "train", "plan", "trace", "score", "verify", "search", "probe", "evaluate", "study", "blocks", "env")


@pytest.fixture
def queries_file(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return write_rows(tmp_path / "data" / "q.jsonl", QUERIES)


def test_help_lists_every_verb_and_each_verb_has_help(shell: Shell) -> None:
    helped = shell("--help")
    assert helped.code == 0 and "should you believe the answer?" in " ".join(helped.out.replace("│", " ").split())
    for verb in VERBS:
        assert verb in helped.out
        of_verb = shell(verb, "--help")
        assert of_verb.code == 0 and "--json" in of_verb.out
    assert [command.callback.__name__ for command in app_file.app.registered_commands] == list(VERBS)


@pytest.mark.parametrize("words", [(), ("scor",), ("score",), ("score", "run", "--querys", "x"),
                                   ("trace", "run", "--prompt", "p", "--response", "r", "--top", "many")])
def test_what_is_typed_wrong_exits_with_2_and_no_traceback(words: tuple[str, ...], shell: Shell) -> None:
    typed = shell(*words)
    assert typed.code == 2 and "Traceback" not in typed.out + typed.err


def test_a_bug_keeps_its_traceback(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("whence.cli.env.environment", broken)
    with pytest.raises(ZeroDivisionError, match="ours"):
        shell("env")


def test_the_console_script_exits_with_2(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", "from whence.cli import main; main()", "score", str(tmp_path / "run"),
                           "--queries", "x.jsonl"], capture_output=True, text=True, timeout=300, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"whence: {tmp_path / 'run' / 'run.json'}: no such file\n"


def test_a_missing_column_is_named(shell: Shell, copy_run: CopyRun, base_folder: Path, tmp_path: Path) -> None:
    run = copy_run("lora")
    rows = [{"question": row["prompt"], "answer": row["completion"], "label": row["group"]} for row in QUERIES]
    path = write_rows(tmp_path / "q.jsonl", rows)
    with nothing_written(tmp_path):
        message = shell.refuses("score", run, "--queries", path)
        assert "q.jsonl: the columns (question, answer, label) fit no format" in message and "--columns" in message
        message = shell.refuses("score", run, "--queries", path, "--columns", "prompt=question,completion=anser")
        assert "q.jsonl: no column 'anser' (wanted for completion) (did you mean 'answer'?)" in message
        message = shell.refuses("train", base_folder, path, "--out", tmp_path / "out")
        assert "fit no format" in message
    assert shell("score", run, "--queries", path, "--method", "bm25",
                 "--columns", "prompt=question,completion=answer,group=label").code == 0


def test_an_empty_completion_is_named_by_its_line(shell: Shell, copy_run: CopyRun, base_folder: Path,
                                                  tmp_path: Path) -> None:
    run = copy_run("lora")
    path = write_rows(tmp_path / "q.jsonl", [*QUERIES[:3], {**QUERIES[3], "completion": "  "}])
    with nothing_written(tmp_path):
        for words in (("score", run, "--queries", path), ("train", base_folder, path, "--out", tmp_path / "out")):
            message = shell.refuses(*words)
            assert "q.jsonl, row 3 (line 4), column 'completion': is empty" in message
        message = shell.refuses("trace", run, "--prompt", "p", "--response", " ")
        assert "column 'completion': is empty" in message


def test_an_unknown_label_is_named_before_anything_is_swept(shell: Shell, copy_run: CopyRun, tmp_path: Path) -> None:
    run = copy_run("lora")
    path = write_rows(tmp_path / "q.jsonl", [*QUERIES[:2], {**QUERIES[2], "group": "fish"}])
    with nothing_written(tmp_path):
        message = shell.refuses("score", run, "--queries", path)
    assert "q.jsonl: query row 2 has label 'fish', which no row of" in message
    assert "known labels: 'bird', 'fruit', 'tool'" in message


def test_nan_in_the_weights_is_named(shell: Shell, copy_run: CopyRun, base_folder: Path, queries_file: Path,
                                     tmp_path: Path) -> None:
    run = copy_run("full")
    change_weights(run / "model" / "model.safetensors", lambda weight: weight * float("nan"))
    broken = Path(shutil.copytree(base_folder, tmp_path / "broken"))
    change_weights(broken / "model.safetensors", lambda weight: weight * float("inf"))
    with nothing_written(tmp_path):
        for words in (("score", run, "--queries", queries_file), ("trace", run, "--prompt", "p", "--response", "r")):
            assert f"{run / 'model'}: NaN or infinity in 1 of" in shell.refuses(*words)
        for words in (("train", broken, queries_file, "--out", tmp_path / "out"), ("blocks", broken)):
            assert f"{broken}: NaN or infinity in 1 of" in shell.refuses(*words)


def test_an_adapter_for_another_base_is_refused(shell: Shell, copy_run: CopyRun, other_base: Path, queries_file: Path,
                                                tmp_path: Path) -> None:
    run = copy_run("lora")
    point_to_base(run, other_base)
    with nothing_written(tmp_path):
        for words in (("score", run, "--queries", queries_file), ("blocks", other_base, "--adapter", run / "adapter"),
                      ("trace", run, "--prompt", "p", "--response", "r")):
            assert "the adapter was trained on the base model with hash" in shell.refuses(*words)


def test_scores_and_labels_of_different_sizes_are_refused(shell: Shell, copy_run: CopyRun, queries_file: Path,
                                                          tmp_path: Path) -> None:
    run = copy_run("lora")
    assert shell("score", run, "--queries", queries_file, "--method", "bm25").code == 0
    few = write_rows(tmp_path / "few.jsonl", QUERIES[:5])
    words = ["evaluate", run / "scores" / "q" / "bm25", "--train-labels", run / "train.parquet", "--query-labels"]
    with nothing_written(tmp_path):
        message = shell.refuses(*words, few)
        assert "scores are [6 queries, 24 training rows], but there are 5 labels in" in message
        message = shell.refuses(*words[:3], few, "--query-labels", few)
        assert "few.jsonl" in message
        typed = shell(*words, queries_file, "--permutations", 5, "--json")
    assert typed.code == 0 and json.loads(typed.out)["n_queries"] == 6


@pytest.mark.parametrize(("method", "message"), [
    ("fissher", "method 'fissher' is not known (did you mean 'fisher'?); there are: "),
    ("datainf(dampling=1.0)", "is not one of its options (did you mean 'damping'?); it takes damping=0.1"),
    ("fisher(damping=1.0", "the bracket is not closed"),
    ("repsim(model=untuned)", "model=untuned: expected tuned or base"),
])
def test_an_unknown_method_or_option_is_named_with_what_is_near(method: str, message: str, shell: Shell,
                                                                copy_run: CopyRun, queries_file: Path,
                                                                tmp_path: Path) -> None:
    run = copy_run("lora")
    with nothing_written(tmp_path):
        assert message in shell.refuses("score", run, "--queries", queries_file, "--method", "bm25", "--method", method)
        assert message in shell.refuses("trace", run, "--prompt", "p", "--response", "r", "--method", method)


def test_what_is_not_there_is_named(shell: Shell, copy_run: CopyRun, queries_file: Path, base_folder: Path,
                                    tmp_path: Path) -> None:
    run = copy_run("lora")
    with nothing_written(tmp_path):
        gone = tmp_path / "gone"
        assert shell.refuses("score", gone, "--queries", queries_file) == f"{gone / 'run.json'}: no such file"
        assert "run.json: no such file" in shell.refuses("trace", gone, "--prompt", "p", "--response", "r")
        assert "q.jsonl/run.json: cannot be read (Not a directory)" in shell.refuses(
            "score", queries_file, "--queries", queries_file)
        assert f"{gone}: no such file or folder" in shell.refuses("score", run, "--queries", gone)
        assert "unknown kind of file" in shell.refuses("score", run, "--queries", __file__)
        assert f"{gone}: no such folder" in shell.refuses("blocks", gone)
        assert f"{gone}: no such file or folder" in shell.refuses("train", base_folder, gone, "--out", tmp_path / "o")
        assert f"{gone}: no such file or folder" in shell.refuses(
            "evaluate", gone, "--train-labels", queries_file, "--query-labels", queries_file)


def test_an_unfinished_run_says_how_to_go_on(shell: Shell, copy_run: CopyRun, queries_file: Path,
                                             tmp_path: Path) -> None:
    run = copy_run("lora")
    change_json(run / "run.json", lambda record: record.update(status="training"))
    with nothing_written(tmp_path):
        message = shell.refuses("score", run, "--queries", queries_file)
    assert "the fine-tune is not finished (status 'training'); give the same `whence train` command again" in message


def test_a_place_that_holds_something_else_is_refused(shell: Shell, copy_run: CopyRun, queries_file: Path,
                                                      tmp_path: Path) -> None:
    run = copy_run("lora")
    assert shell("score", run, "--queries", queries_file, "--method", "bm25").code == 0
    others = write_rows(tmp_path / "q.jsonl", QUERIES[:2])  # another file of the same name
    with nothing_written(tmp_path):
        message = shell.refuses("score", run, "--queries", others, "--method", "bm25")
        assert "scores/q: holds the scores of other queries; choose another name (--name)" in message
        assert "expected the name of a folder" in shell.refuses("score", run, "--queries", others, "--name", "a/b")
        assert "expected at least 1" in shell.refuses("trace", run, "--prompt", "p", "--response", "r", "--top", 0)
    assert shell("score", run, "--queries", others, "--method", "bm25", "--name", "two").code == 0
    message = shell.refuses("trace", run, "--prompt", "p", "--response", "r", "--html", tmp_path)
    assert "a folder; expected the name of a file" in message


def test_labels_of_training_rows_may_come_from_anywhere(shell: Shell, copy_run: CopyRun, queries_file: Path,
                                                        tmp_path: Path) -> None:
    run = copy_run("lora")
    labels = write_rows(tmp_path / "train.jsonl", ROWS)
    shell("score", run, "--queries", queries_file, "--method", "bm25")
    scores = run / "scores" / "q"
    results = [shell("evaluate", scores / "bm25", "--train-labels", of_train, "--query-labels", of_queries,
                     "--permutations", 5, "--json").out
               for of_train, of_queries in ((labels, queries_file),
                                            (run / "train.parquet", scores / "queries.parquet"))]
    assert results[0] == results[1] and json.loads(results[0])["method"] == "bm25"
