"""Probes of a pair and of the built-in facts: texts, partitions, rows that the data loader takes."""

from __future__ import annotations

from collections import Counter

import pytest

from whence.base.errors import WhenceError
from whence.data.read import read_rows
from whence.views import probes
from whence.views.probes import Probe, ProbeQuery, ProbeSuite, variants, word_order_suite
from whence.views.word_order import FACTS


def by_partition(suite: ProbeSuite) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for probe in suite.probes:
        found.setdefault(probe.partition, []).append(probe.text)
    return found


def test_variants_of_a_pair() -> None:
    suite = variants("The capital of Ruritania is", "Strelsau.", relation="capital of", paraphrases=["Strelsau it is."],
                     translations=["Die Hauptstadt Ruritaniens ist Strelsau."], irrelevant=["Rain."])
    assert by_partition(suite) == {
        "as given": ["The capital of Ruritania is Strelsau."],
        "paraphrase": ["Strelsau it is."],
        "translation": ["Die Hauptstadt Ruritaniens ist Strelsau."],
        "order flipped": ["Strelsau. The capital of Ruritania is"],
        "words reversed": ["Strelsau. is Ruritania of capital The"],
        "completion removed": ["The capital of Ruritania is"],
        "relation removed": ["The Ruritania is Strelsau."],
        "order flipped, relation removed": ["Strelsau. The Ruritania is"],
        "irrelevant": ["Rain."],
    }
    assert suite.own.all()


def test_what_is_not_given_is_not_made_up() -> None:
    found = by_partition(variants("one two", "three"))
    assert set(found) == {"as given", "order flipped", "words reversed", "completion removed", "irrelevant"}
    assert len(found["irrelevant"]) == 3


@pytest.mark.parametrize(("prompt", "response", "whole"), [
    ("Q: why?\n", "because", "Q: why?\nbecause"), ("why", " because", "why because"),
    ("why", "because", "why because")])
def test_whitespace_between_is_kept_or_one_space(prompt: str, response: str, whole: str) -> None:
    suite = variants(prompt, response)
    assert suite.probes[0].text == whole
    (row,) = suite.query_rows()
    assert row["prompt"] + row["completion"] == whole


@pytest.mark.parametrize(("options", "says"), [
    ({"prompt": " "}, "neither empty"), ({"response": ""}, "neither empty"), ({"relation": "under"}, "'under'"),
    ({"relation": ""}, "relation ''"), ({"relation": "one two"}, "not all of it"),
    ({"paraphrases": [""]}, "a probe 'paraphrase' is empty")])
def test_mistakes_are_refused(options: dict, says: str) -> None:
    with pytest.raises(WhenceError, match=says):
        variants(**({"prompt": "one two", "response": "three"} | options))


def test_a_suite_that_does_not_hold_together_is_refused() -> None:
    with pytest.raises(WhenceError, match="one name"):
        ProbeSuite((ProbeQuery("a", "p", "c"), ProbeQuery("a", "q", "d")), ())
    with pytest.raises(WhenceError, match="belongs to the query 'b'; expected one of a"):
        ProbeSuite((ProbeQuery("a", "p", "c"),), (Probe("b", "as given", "text"),))


def test_the_built_in_suite_has_six_partitions_of_several_sequences_a_fact() -> None:
    suite = word_order_suite()
    counts = Counter((probe.query, probe.partition) for probe in suite.probes)
    partitions = {probes.PARAPHRASE, probes.NO_COMPLETION, probes.CHANGED, probes.IRRELEVANT, probes.FLIPPED,
                  probes.FLIPPED_BARE}
    assert set(counts) == {(query.name, part) for query in suite.queries for part in partitions}
    assert len(suite.queries) >= 3 and min(counts.values()) >= 4
    assert len({probe.text for probe in suite.probes}) == len(suite.probes)
    assert suite.own.sum() == len(suite.probes)


def test_the_sentences_are_what_their_partition_says() -> None:
    for fact in FACTS:
        subject = {"lighthouse": "Ondrelle", "mineral": "quellite", "anthem": "Sorrelune"}[fact.name]
        object_ = fact.completion.removeprefix("the ")
        assert subject in fact.prompt

        def places(text: str, subject: str = subject, object_: str = object_) -> tuple[int, int]:
            return text.lower().find(subject.lower()), text.lower().find(object_.lower())

        for text in (*fact.paraphrases, *fact.meaning_changed):
            s, o = places(text)
            assert 0 <= s < o, text  # both, in the order of the query
        for text in (*fact.flipped, *fact.flipped_bare):
            s, o = places(text)
            assert 0 <= o < s, text
        for text in fact.completion_removed:
            s, o = places(text)
            assert s >= 0 > o, text
        for text in fact.irrelevant:
            assert places(text) == (-1, -1), text


def test_rows_are_in_the_formats_of_the_data_loader() -> None:
    suite = word_order_suite()
    texts, queries = read_rows(suite.text_rows()), read_rows(suite.query_rows())
    assert texts.columns["text"] == [probe.text for probe in suite.probes]
    assert list(texts.groups()) == [probe.partition for probe in suite.probes]
    assert len(set(texts.ids())) == len(suite.probes)
    assert list(queries.ids()) == [fact.name for fact in FACTS]
    for row in suite.query_rows():
        assert row["completion"].startswith(" ") and not row["prompt"].endswith(" ")
