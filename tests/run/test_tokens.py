"""`Hits.tokens`: the tokens of a hit, whose shares add up to its score."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from rich.console import Console

from tests.run.fixtures import QUERIES, CopyRun
from whence.base.errors import WhenceError
from whence.run import hit_tokens
from whence.run.run import Run

ANSWER = QUERIES[0]["prompt"], QUERIES[0]["completion"]


@pytest.mark.parametrize("method", ["ekfac", "gradient-dot", "kfac(rank=1)", "diagonal"])
def test_the_shares_of_the_tokens_add_up_to_the_score(method: str, in_memory: Run) -> None:
    hits = in_memory.trace(*ANSWER, method)
    chosen = [hits[0], hits[5], hits[-1]]
    together = hits.tokens_of(chosen)
    for hit, tokens in zip(chosen, together, strict=True):
        assert tokens.row == hit.row and len(tokens) == len(in_memory.train.tokens[hit.row])
        assert tokens.scores.sum() == pytest.approx(hit.score, rel=1e-4)
        assert "".join(tokens.texts) == in_memory.tokenizer.decode(in_memory.train.tokens[hit.row])
        assert hit.prompt.split()[-1] in "".join(tokens.texts)
        last = np.flatnonzero(in_memory.train.is_response[hit.row])[-1]
        assert (tokens.scores[last:] == 0).all() and (tokens.scores[:last] != 0).any()
        alone = hits.tokens(hit)
        np.testing.assert_allclose(alone.scores, tokens.scores, rtol=1e-3, atol=1e-5 * np.abs(tokens.scores).max())
    order = np.argsort(-np.abs(together[0].scores), kind="stable")
    assert [t for t, _, _ in together[0].strongest(4)] == order[:4].tolist()
    assert "gradient at this position" in together[0].what and hits.tokens_of([]) == []


def test_what_is_stored_is_solved_for_again_once(copy_run: CopyRun, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = copy_run("lora")
    first = Run.load(folder).trace(*ANSWER)
    again = Run.load(folder).trace(*ANSWER)  # products come from the folder, vectors do not
    solved: list[int] = []
    real = hit_tokens.solve_at_once
    monkeypatch.setattr(hit_tokens, "solve_at_once", lambda *rest: (solved.append(1), real(*rest))[1])
    np.testing.assert_array_equal(again.tokens(again[0]).scores, first.tokens(first[0]).scores)
    again.tokens(again[1])
    assert solved == [1, 1]


def test_json_and_the_terminal_show_the_strongest(in_memory: Run) -> None:
    hits = in_memory.trace(*ANSWER)
    value = json.loads(json.dumps(hits.to_json(3, tokens=2)))
    assert [len(hit["tokens"]) for hit in value["proponents"]] == [2, 2, 2]
    (position, text, score), *_ = hits.tokens(hits[0]).strongest(1)
    shown = value["proponents"][0]["tokens"][0]
    assert (shown["position"], shown["text"]) == (position, text) and shown["score"] == pytest.approx(score, rel=1e-4)
    assert "tokens" not in hits.to_json(3)["proponents"][0] and "tokens" not in value["opponents"][0]
    console = Console(file=io.StringIO(), width=160)
    console.print(hits.tokens_to_rich(3, 2))
    printed = console.file.getvalue()
    lines = printed.splitlines()
    assert [line.split()[0] for line in lines if line.strip()[:1].isdigit()] == ["1", "2", "3"]
    assert repr(text) in printed and "the sign of a single one is not interpretable" in " ".join(printed.split())


def test_methods_without_vectors_are_told_those_with_them(in_memory: Run) -> None:
    for method in ("bm25", "fisher", "repsim"):
        hits = in_memory.trace(*ANSWER, method)
        with pytest.raises(WhenceError, match=rf"method '{method}': has no influence by token, .* these have: .*ekfac"):
            hits.tokens(hits[0])


def test_a_model_changed_since_is_refused(in_memory: Run) -> None:
    hits = in_memory.trace(*ANSWER)
    weight = in_memory.subject.blocks[0].module.weight
    with torch.no_grad():
        weight.mul_(2)
    try:
        with pytest.raises(WhenceError, match="the model was changed since these rows were ranked"):
            hits.tokens(hits[0])
    finally:
        with torch.no_grad():
            weight.div_(2)
