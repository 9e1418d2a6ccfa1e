"""`whence trace`: both ends of the ranking on the terminal, as JSON, and as a page."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.typed import Shell
from tests.run.fixtures import QUERIES, CopyRun
from whence.run.run import Run

ANSWER = ("--prompt", QUERIES[0]["prompt"], "--response", QUERIES[0]["completion"])


def test_it_prints_what_was_measured_and_both_ends(shell: Shell, copy_run: CopyRun, tmp_path: Path) -> None:
    run, page = copy_run("lora"), tmp_path / "[x]" / "answer.html"
    typed = shell("trace", run, *ANSWER, "--top", 2, "--html", page)
    assert (typed.code, typed.err) == (0, "")
    hits = Run.load(run).trace(*ANSWER[1::2])
    lines = typed.out.splitlines()
    said = "is" if hits.greedy_matches else "is not"
    assert lines[0] == f"log prob of the response: {hits.value:.3f} nats; it {said} the model's greedy answer"
    ranks = [line.strip("│ ").split()[0] for line in lines if line.startswith("│")]
    assert ranks == ["1", "2", "23", "24"]
    assert lines[-1] == f"report: {page}" and 1_000 < page.stat().st_size < 2_000_000


def test_tokens_are_shown_where_they_are_asked_for(shell: Shell, copy_run: CopyRun) -> None:
    run = copy_run("lora")
    value = json.loads(shell("trace", run, *ANSWER, "--top", 2, "--tokens", 3, "--json").out)
    hits = Run.load(run).trace(*ANSWER[1::2])
    for shown, hit in zip(value["proponents"], hits.top(2), strict=True):
        assert [token["text"] for token in shown["tokens"]] == [text for _, text, _ in hits.tokens(hit).strongest(3)]
    typed = shell("trace", run, *ANSWER, "--top", 2, "--tokens", 1)
    assert typed.code == 0 and "tokens that the scores come from" in typed.out
    assert repr(hits.tokens(hits[0]).strongest(1)[0][1]) in typed.out
    assert "has no influence by token" in shell.refuses("trace", run, *ANSWER, "--method", "bm25", "--tokens", 1)
    assert "--tokens -1: expected 0" in shell.refuses("trace", run, *ANSWER, "--tokens", -1)


def test_json_is_one_object(shell: Shell, copy_run: CopyRun, tmp_path: Path) -> None:
    run = copy_run("full")
    value = json.loads(shell("trace", run, *ANSWER, "--method", "datainf(damping=1.0)", "--top", 3, "--json").out)
    hits = Run.load(run).trace(*ANSWER[1::2], "datainf(damping=1.0)")
    assert value == json.loads(json.dumps(hits.to_json(3) | {"report": None}))
    assert [hit["row"] for hit in value["proponents"]] == [hit.row for hit in hits.top(3)]
    assert value["method"] == "datainf(damping=1.0)"
    assert "card" not in value
    asked = shell("trace", run, *ANSWER, "--method", "gradient-dot", "--card")
    assert asked.code == 0 and "trust card of gradient-dot: doubt" in asked.out
    assert json.loads(shell("trace", run, *ANSWER, "--card", "--json").out)["card"]["level"] == "free"
    page = tmp_path / "x.html"
    assert json.loads(shell("trace", run, *ANSWER, "--html", page, "--json").out)["report"] == str(page)
