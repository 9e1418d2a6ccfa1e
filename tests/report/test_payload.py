from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.report.synthetic import HEADLINE, METHODS, content
from whence.base.errors import WhenceError
from whence.report.payload import Shown, _pack_bits, dump, fit
from whence.scores.matrix import Scores


def integers(text: str, largest: int, count: int) -> np.ndarray:
    """Independent of the packer: the bytes as one string of binary digits."""
    digits = "".join(f"{byte:08b}" for byte in base64.b64decode(text))
    width = len(f"{largest:b}")
    return np.array([int(digits[i * width:(i + 1) * width], 2) for i in range(count)])


def unpack(data: dict[str, Any], query: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(training rows [M, 2h], scores [M, 2h], ranks of those rows under every method [M, M, 2h])."""
    M, U, N = len(data["methods"]), query["size"], data["n_train"]
    rows = integers(query["rows"], N, U)
    lists = integers(query["lists"], U, M * 2 * data["hits"]).reshape(M, -1)
    ranks = integers(query["ranks"], N, M * U).reshape(M, U)
    scores = np.frombuffer(base64.b64decode(query["scores"]), "<f4").reshape(M, -1)
    return rows[lists], scores, ranks[:, lists]


@given(st.lists(st.integers(0, 70_000), min_size=1))
def test_packed_bits_read_back(values: list[int]) -> None:
    assert integers(_pack_bits(np.array(values), 70_000), 70_000, len(values)).tolist() == values


def test_lists_scores_and_ranks_are_those_of_the_matrix() -> None:
    made = content()
    text, shown = fit(made, 10**6)
    data = json.loads(text)
    assert shown == Shown((0, 1, 2, 3, 4), 10)
    assert data["hits"] == 10
    for q, query in enumerate(data["queries"]):
        rows, scores, ranks = unpack(data, query)
        for m, label in enumerate(METHODS):
            values = made.scores[label].values[q]
            order = np.argsort(-values)
            assert rows[m].tolist() == [*order[:10], *order[::-1][:10]]
            np.testing.assert_allclose(scores[m], values[rows[m]], rtol=1e-6)
            for other, judge in enumerate(METHODS):
                judged = made.scores[judge].values[q]
                expected = [1 + int((judged > judged[row]).sum()) for row in rows[m]]
                assert ranks[other, m].tolist() == expected


def test_tied_rows_share_their_middle_rank() -> None:
    values = np.zeros((1, 9))
    values[0, 0] = 1
    made = content(1, 9, scores={"bm25": Scores(values, "bm25")}, headline="bm25", baselines=(), metrics=None,
                   blocks=(), block_scores=None)
    data = json.loads(fit(made, 10**6)[0])
    rows, _, ranks = unpack(data, data["queries"][0])
    assert data["hits"] == 4  # half of nine rows: no row is both a proponent and an opponent
    assert not set(rows[0, :4]) & set(rows[0, 4:])
    assert dict(zip(rows[0].tolist(), ranks[0, 0].tolist(), strict=True)) == {
        0: 1, 1: 5, 2: 5, 3: 5, 5: 5, 6: 5, 7: 5, 8: 5}
    assert data["methods"][0]["negatives"] is False


def test_only_shown_rows_travel_and_long_texts_are_cut() -> None:
    made = content(1, 200, methods=(HEADLINE,), words=200)
    data = json.loads(fit(made, 10**6)[0])
    rows, _, _ = unpack(data, data["queries"][0])
    assert {int(row) for row in data["train"]} == set(rows.ravel().tolist())
    text, missing = data["queries"][0]["prompt"]
    assert text == made.queries.prompts[0][:600]
    assert missing == len(made.queries.prompts[0]) - 600 > 0


def test_block_shares_are_of_the_headline_and_by_layer_when_many() -> None:
    for n_blocks, names in ((6, 6), (26, 13)):
        made = content(n_blocks=n_blocks)
        data = json.loads(fit(made, 10**6)[0])
        assert len(data["blocks"]) == names
        assert data["by_layer"] == (n_blocks > 24)
        query = data["queries"][2]
        rows, scores, _ = unpack(data, query)
        shares = np.frombuffer(base64.b64decode(query["shares"]), "<i2").reshape(20, names)
        whole = np.frombuffer(base64.b64decode(query["whole"]), "<f4")
        assert made.block_scores is not None
        expected = made.block_scores(2, rows[0].tolist()).reshape(20, names, -1).sum(2)
        np.testing.assert_allclose(shares / 1000 * whole[:, None], expected, atol=1e-3)
        np.testing.assert_allclose((shares / 1000 * whole[:, None]).sum(1), scores[0], atol=2e-2)
        assert query["parts_differ"] is False


def test_blocks_that_do_not_add_up_are_flagged() -> None:
    made = content(block_scores=lambda q, rows: np.ones((len(rows), 6)))
    assert all(query["parts_differ"] for query in json.loads(fit(made, 10**6)[0])["queries"])


@pytest.mark.parametrize(("answer", "message"), [
    (lambda q, rows: np.ones((len(rows), 5)), r"query 0 have shape \[20, 5\]; .* \[20, 6\]"),
    (lambda q, rows: np.full((len(rows), 6), np.nan), r"query 0, training row \d+, block 'layers.*' is nan"),
])
def test_wrong_block_scores_are_refused(answer: Any, message: str) -> None:
    with pytest.raises(WhenceError, match=message):
        fit(content(block_scores=answer), 10**6)


def test_a_tight_budget_first_shortens_lists_then_drops_queries() -> None:
    made = content(40, 60, metrics=None)
    sizes = {len(fit(made, 10**7)[0].encode()): 10}
    plans = []
    for budget in (max(sizes), max(sizes) - 1, 60_000, 20_000, 9_000):
        text, shown = fit(made, budget)
        assert len(text.encode()) <= budget
        assert json.loads(text)["shown"] == len(shown.queries)
        plans.append((shown.hits, len(shown.queries)))
    assert plans[0] == (10, 40)
    assert plans[1] == (8, 40)
    assert plans[-1][0] <= 5 and plans[-1][1] < 40
    assert plans == sorted(plans, reverse=True)
    queries = fit(made, 20_000)[1].queries
    assert (queries[0], queries[-1]) == (0, 39)  # spread over the data, not its first part
    with pytest.raises(WhenceError, match=r"with one hit a list takes [\d,]+ bytes and 900 are left"):
        fit(made, 900)


@given(st.text())
def test_json_cannot_leave_its_script_element(text: str) -> None:
    dumped = dump([text, "</script><!--"])
    assert "<" not in dumped
    assert json.loads(dumped) == [text, "</script><!--"]
