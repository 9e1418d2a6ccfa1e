"""`Run.probe`: made-up texts scored as training rows would be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.run.fixtures import ROWS, write_rows
from whence.base.errors import WhenceError
from whence.run.probe import read_suite
from whence.run.run import Run
from whence.views.probes import UNRELATED, ProbeSuite, variants, word_order_suite

QUERY = {"name": "owl", "prompt": "The owl is", "completion": "a bird.", "relation": "is",
         "irrelevant": ["An old axe."], "paraphrases": ["Any owl: a bird."],
         "texts": {"shouted": ["THE OWL.", "A BIRD."]}}


def test_scores_are_those_of_the_texts_as_training_rows(in_memory: Run) -> None:
    """A run trained on exactly the probes, N times as many rows apart, gives the same products."""
    suite = read_suite([QUERY, {"prompt": "The saw is", "completion": "a tool.", "irrelevant": []}])
    probed = in_memory.probe(suite, "gradient-dot")
    assert probed.scores.shape == (2, len(suite.probes)) and probed.method == "gradient-dot"
    other = Run(in_memory.model, in_memory.tokenizer, suite.text_rows())
    dense = other.score(suite.query_rows(), "gradient-dot")["gradient-dot"].values
    np.testing.assert_allclose(probed.scores * 24, dense * len(suite.probes), rtol=1e-5)
    own = [probed.scores[0, r] for r, probe in enumerate(suite.probes) if probe.partition == "shouted"]
    assert probed.table.partitions["shouted"].value == pytest.approx(np.mean(own)) and len(own) == 2
    value = probed.to_json()
    assert value["probes"][0] == {"query": "owl", "partition": "as given", "text": "The owl is a bird.",
                                  "score": probed.scores[0, 0]}
    assert value["facts"]["n"] == 24 and "ratio_kept_flipped" in value["table"]


def test_the_curvature_is_that_of_the_training_rows(in_memory: Run) -> None:
    suite = variants("The owl is", "a bird.", irrelevant=())
    probed = in_memory.probe(suite)
    run = Run(in_memory.model, in_memory.tokenizer, in_memory.train)
    found = run.search(suite.text_rows(), suite.query_rows(), top=len(suite.probes))
    order = np.argsort(-probed.scores[0], kind="stable")
    assert [hit.row for hit in found.top(0)] == order.tolist() and probed.facts == found.facts
    assert [hit.score for hit in found.top(0)] == probed.scores[0][order].tolist()


def test_a_template_is_for_the_queries_alone(in_memory: Run) -> None:
    run = Run(in_memory.model, in_memory.tokenizer, in_memory.train, encoding={"template": "{prompt} ->{completion}"})
    plain, asked = (one.probe(variants("An owl", "a bird", irrelevant=())) for one in (in_memory, run))
    assert plain.scores.shape == asked.scores.shape and (plain.scores != asked.scores).any()


def test_suites_come_from_files_and_by_name(tmp_path: Path) -> None:
    suite = read_suite(write_rows(tmp_path / "q.jsonl", [QUERY, {"prompt": "a", "completion": "b", "name": None}]))
    assert [query.name for query in suite.queries] == ["owl", "row 1"]
    texts = {probe.partition: probe.text for probe in suite.probes if probe.query == "owl"}
    assert texts["paraphrase"] == "Any owl: a bird." and texts["irrelevant"] == "An old axe."
    assert texts["relation removed"] == "The owl a bird." and texts["shouted"] == "A BIRD."
    assert [p.text for p in suite.probes if (p.query, p.partition) == ("row 1", "irrelevant")] == list(UNRELATED)
    assert read_suite("word-order") == word_order_suite()
    assert isinstance(suite, ProbeSuite)


@pytest.mark.parametrize(("row", "message"), [
    ({"prompt": "a"}, "no column 'completion'; a query for probes is .* or a suite by name: word-order"),
    ({"prompt": "a", "completion": 3}, r"row 0, column 'completion': met 3; expected a string"),
    ({"prompt": "a", "completion": "b", "paraphrase": ["c"]}, "column 'paraphrase' is not one of completion, irr"),
    ({"prompt": "a", "completion": "b", "paraphrases": "c"}, "'paraphrases': met 'c'; expected a list of strings"),
    ({"prompt": "a", "completion": "b", "texts": ["c"]}, "column 'texts': met .* expected lists of texts by partition"),
    ({"prompt": "a", "completion": "b", "texts": {"x": "c"}}, "'x': met 'c'; expected a list of strings"),
    ({"prompt": "a", "completion": "b", "relation": "is"}, "relation 'is': expected a phrase of the prompt"),
    ({"prompt": "a", "completion": " "}, "neither empty"),
])
def test_rows_that_make_no_probes_are_named(row: dict[str, Any], message: str) -> None:
    with pytest.raises(WhenceError, match=message):
        read_suite([row])


def test_what_cannot_be_probed_is_refused(in_memory: Run) -> None:
    with pytest.raises(WhenceError, match="word-ordr: no such file or folder"):
        in_memory.probe("word-ordr")
    with pytest.raises(WhenceError, match=r"method 'bm25': has no score of a probe, .* these have: .*ekfac"):
        in_memory.probe(variants("a", "b"), "bm25")
    with pytest.raises(WhenceError, match=r"row 0 \(id 'probe 0: .* but the model has 48 positions"):
        in_memory.probe(variants("long " * 60, "b"))
    assert len(ROWS) == 24
