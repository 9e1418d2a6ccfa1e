"""Sentence transformations."""

from __future__ import annotations

from collections import Counter

import pytest

from whence.base.errors import WhenceError
from whence.tasks.grammar import RULES, _example, grammar_task


@pytest.mark.parametrize(("rule", "changed"), {
    "reverse words": "slowly birds see foxes old",
    "capitalise words": "Old Foxes See Birds Slowly",
    "uppercase letters": "OLD FOXES SEE BIRDS SLOWLY",
    "insert a star": "old star foxes star see star birds star slowly",
    "remove vowels": "ld fxs s brds slwly",
    "swap first and last": "slowly foxes see birds old",
    "double last letters": "oldd foxess seee birdss slowlyy",
    "pig latin": "ldoay oxesfay eesay irdsbay lowlysay",
    "add a prefix": "indeed old foxes see birds slowly",
    "add a suffix": "old foxes see birds slowly of course",
    "sort words": "birds foxes old see slowly",
    "repeat words": "old old foxes foxes see see birds birds slowly slowly",
    "join with hyphens": "old-foxes-see-birds-slowly",
}.items())
def test_rules(rule: str, changed: str) -> None:
    assert RULES[rule](["old", "foxes", "see", "birds", "slowly"]) == changed


def test_sizes_labels_and_prompts() -> None:
    task = grammar_task()
    assert Counter(task.train_groups) == dict.fromkeys(list(RULES)[:10], 90)
    assert Counter(task.query_groups) == dict.fromkeys(list(RULES)[:10], 10)
    assert task.kind == "class"
    sentences = [row["prompt"].split(" -> ")[0] for row in task.train + task.queries]
    assert len(set(sentences)) == 1000  # no sentence twice, under any rule, in train or queries


def test_the_prompt_holds_the_sentence_and_its_change_and_no_other_rule_explains_it() -> None:
    for row in grammar_task(n_classes=len(RULES), train_per_class=20, queries_per_class=1).train:
        assert row["prompt"].endswith(". Rule?\n")
        sentence, changed = row["prompt"].removesuffix(". Rule?\n").split(" -> ")
        assert [name for name, rule in RULES.items() if rule(sentence.split()) == changed] == [row["group"]]
        assert row["completion"] == row["group"]


def test_answer_sentence_asks_for_the_change_of_the_same_sentences() -> None:
    by_rule = grammar_task(n_classes=3, train_per_class=5, queries_per_class=2, seed=4)
    by_sentence = grammar_task(n_classes=3, train_per_class=5, queries_per_class=2, seed=4, answer="sentence")
    for one, other in zip(by_rule.train, by_sentence.train, strict=True):
        sentence, changed = one["prompt"].removesuffix(". Rule?\n").split(" -> ")
        assert (other["prompt"], other["completion"]) == (f"{one['group']}: {sentence}\n", changed)


def test_the_seed_decides() -> None:
    small = {"n_classes": 2, "train_per_class": 4, "queries_per_class": 2}
    assert grammar_task(**small, seed=1) == grammar_task(**small, seed=1)
    assert grammar_task(**small, seed=1).train != grammar_task(**small, seed=2).train


def test_bad_options() -> None:
    with pytest.raises(WhenceError, match=r"n_classes=14: expected 2 to 13"):
        grammar_task(n_classes=14)
    with pytest.raises(WhenceError, match=r"n_classes=1: expected 2 to 13"):
        grammar_task(n_classes=1)
    with pytest.raises(WhenceError, match=r"queries_per_class=0: expected at least 1"):
        grammar_task(queries_per_class=0)
    with pytest.raises(WhenceError, match=r"answer='both': expected 'rule' or 'sentence'"):
        _example("sort words", "b a", "both")
