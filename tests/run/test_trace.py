"""`Run.trace` and `Hits`: training rows in the order of their scores, from both ends, in every form."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tests.run.fixtures import PASSES, QUERIES, CopyRun
from whence.base.errors import WhenceError
from whence.run.hits import Hits
from whence.run.run import Run
from whence.sweep import sweep as sweep_room
from whence.train.fine_tune import fine_tune
from whence.train.recipe import Recipe

PROMPT, RESPONSE = QUERIES[0]["prompt"], QUERIES[0]["completion"]


@pytest.fixture(scope="module")
def hits(in_memory: Run) -> Hits:
    return in_memory.trace(PROMPT, RESPONSE)


def test_hits_come_in_the_order_of_their_scores(hits: Hits, in_memory: Run) -> None:
    scores = in_memory.score([{"prompt": PROMPT, "completion": RESPONSE}], "ekfac")["ekfac"].values[0]
    assert len(hits) == len(list(hits)) == 24
    assert [hit.row for hit in hits] == list(np.argsort(-scores, kind="stable"))
    assert [hit.rank for hit in hits] == list(range(1, 25))
    for hit in hits:
        train = in_memory.train
        assert hit.score == scores[hit.row] and hit.id == train.ids[hit.row] and hit.group == train.groups[hit.row]
        assert (hit.prompt, hit.response) == (train.prompts[hit.row], train.responses[hit.row])


def test_top_and_bottom_are_its_ends(hits: Hits) -> None:
    everything = list(hits)
    assert hits.top(3) == everything[:3] and hits[0] == everything[0]
    assert hits.bottom(3) == everything[:-4:-1] and hits[-1] == everything[-1] == hits[23]
    assert hits[-1].rank == 24
    assert hits.top(99) == everything and hits.bottom(99) == everything[::-1] and hits.top(0) == hits.bottom(0) == []
    assert len(hits.top()) == len(hits.bottom()) == 10
    for beyond in (24, -25):
        with pytest.raises(IndexError):
            hits[beyond]


def test_ties_stand_in_the_order_of_the_rows(in_memory: Run) -> None:
    tied = in_memory.trace("zzz", "qqq", "bm25")  # no word in common
    assert [hit.row for hit in tied] == list(range(24)) and {hit.score for hit in tied} == {0}


def test_json_is_plain_and_says_what_was_measured(hits: Hits, in_memory: Run) -> None:
    value = json.loads(json.dumps(hits.to_json(2), allow_nan=False))
    assert (value["prompt"], value["response"], value["method"], value["unit"]) == (PROMPT, RESPONSE, "ekfac", "nats")
    assert value["n_train"] == 24 and value["facts"]["n"] == 24
    assert [hit["rank"] for hit in value["proponents"]] == [1, 2]
    assert [hit["rank"] for hit in value["opponents"]] == [24, 23]
    assert value["proponents"][0]["id"] == hits[0].id
    scored = in_memory.score([{"prompt": PROMPT, "completion": RESPONSE}], "bm25")
    assert value["log_prob_nats"] == hits.value == scored.measured["values"][0] < 0
    assert value["greedy_matches"] is bool(scored.measured["wrong_tokens"][0] == 0)


def test_the_page_is_one_small_file(hits: Hits, tmp_path: Path) -> None:
    page = hits.to_html(tmp_path / "deep" / "answer.html")
    text = page.read_text(encoding="utf-8")
    assert page == tmp_path / "deep" / "answer.html" and [p.name for p in page.parent.iterdir()] == ["answer.html"]
    assert 1_000 < page.stat().st_size < 2_000_000
    assert text.startswith("<!doctype html>") or text.startswith("<!DOCTYPE html>")
    assert "http://" not in text.replace("http://www.w3.org", "") and "https://" not in text
    assert json.dumps(hits[0].prompt)[1:-1] in text
    with pytest.raises(WhenceError, match="a folder; expected the name of a file"):
        hits.to_html(tmp_path)


def printed(hits: Hits, count: int) -> str:
    console = Console(file=io.StringIO(), width=160)
    console.print(hits.to_rich(count))
    return console.file.getvalue()


def test_the_terminal_shows_both_ends_and_no_row_twice(hits: Hits) -> None:
    text = printed(hits, 3)
    assert [line.split()[0] for line in text.splitlines() if line.split()[:1] and line.split()[0].isdigit()] == []
    rows = [line.strip("│┃ ").split()[0] for line in text.splitlines() if line.startswith("│")]
    assert rows == ["1", "2", "3", "22", "23", "24"]
    everything = [line.strip("│┃ ").split()[0] for line in printed(hits, 99).splitlines() if line.startswith("│")]
    assert everything == [str(rank) for rank in range(1, 25)]


def test_brackets_in_data_are_text_and_no_markup(in_memory: Run) -> None:
    rows = [{"id": "[bold]", "prompt": "[INST] hello [/INST]", "completion": "[red]b[/red] \\", "group": "[/x]"},
            {"id": "2", "prompt": "x\ny", "completion": "c", "group": None}]
    run = Run(in_memory.model, in_memory.tokenizer, in_memory.encode(rows))
    text = printed(run.trace("[/INST]", "hello", "bm25"), 2)
    for piece in ("[bold]", "[INST] hello [/INST]", "[red]b[/red] \\", "[/x]", "x y"):
        assert piece in text


def test_one_method_is_asked_for_and_another_answers(in_memory: Run) -> None:
    for method in ("bm25", "repsim(model=base)", "datainf(damping=1.0)"):
        assert in_memory.trace(PROMPT, RESPONSE, method).scores.method == method
    with pytest.raises(WhenceError, match="did you mean 'datainf'"):
        in_memory.trace(PROMPT, RESPONSE, "datainv")


def test_a_trace_in_a_folder_sweeps_the_training_rows_once(copy_run: CopyRun, hits: Hits,
                                                           monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run.load(copy_run("lora"))
    swept: list[int] = []
    real = sweep_room.sweep
    for module in PASSES:
        monkeypatch.setattr(module, lambda model, examples, *rest, **options: (
            swept.append(len(examples)), real(model, examples, *rest, **options))[1])
    assert [hit.row for hit in run.trace(PROMPT, RESPONSE)] == [hit.row for hit in hits]
    sample = 24 * hits.scores.facts["fit"]["draws"]
    assert swept == [sample, sample, 1, 24]  # covariances, eigenvalues, the query in their basis, its scores
    np.testing.assert_array_equal(run.trace(PROMPT, RESPONSE).scores.values, hits.scores.values)
    assert len(swept) == 4
    run.trace(PROMPT, RESPONSE, "kfac")
    assert swept[4:] == [1, 24]  # the covariances are there
    run.trace(PROMPT, RESPONSE, "datainf")
    assert swept[6:] == [1, 24]
    run.trace(PROMPT, RESPONSE, "fisher")
    assert len(swept) == 8
    assert not (run.folder / "scores").exists()


def test_a_run_trained_on_chats_traces_chats(base_folder: Path, tmp_path: Path) -> None:
    """The query gets the chat template that the training rows got, from `messages` and from prompt + completion."""
    turns = [[{"role": "user", "content": row["prompt"].strip()}, {"role": "assistant", "content": row["completion"]}]
             for row in QUERIES]
    chats = {"messages": [{"messages": turn} for turn in turns],
             "pairs": [{"prompt": turn[:1], "completion": turn[1:]} for turn in turns]}
    for name, rows in chats.items():
        fine_tune(base_folder, rows, tmp_path / name, Recipe(rank=2, epochs=1, checkpoints=1))
        run = Run.load(tmp_path / name)
        hits = run.trace(QUERIES[2]["prompt"].strip(), QUERIES[2]["completion"], "gradient-dot")
        assert hits.query.tokens[0].tolist() == run.train.tokens[2].tolist()
        assert hits.query.is_response[0].tolist() == run.train.is_response[2].tolist()
