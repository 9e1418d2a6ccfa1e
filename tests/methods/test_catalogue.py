"""The standard list: every method is in it, baselines first, each damped one at each damping."""

from __future__ import annotations

from whence.curvature.damping import DAMPINGS
from whence.methods.catalogue import (
    BASELINES,
    COSTLY,
    DEFAULT,
    METHODS,
    hidden_keys,
    needs_of,
    parse_calls,
    standard_calls,
)
from whence.methods.registry import parse


def test_every_method_is_in_the_standard_list_once() -> None:
    calls = standard_calls()
    labels = [str(call) for call in calls]
    assert {call.method.name for call in calls} == set(METHODS) - COSTLY
    assert len(labels) == len(set(labels))
    assert tuple(labels[: len(BASELINES)]) == BASELINES
    assert DEFAULT in METHODS


def test_each_damped_method_comes_at_five_dampings_and_fisher_in_both_scopes() -> None:
    assert len(DAMPINGS) == 5
    found: dict[tuple[str, str], list[float]] = {}
    once = {"diagonal", "kfac", "shampoo", "eshampoo", *COSTLY}  # at their default only, or not at all
    for call in standard_calls():
        if "damping" in call.method.options and call.method.name not in once:
            found.setdefault((call.method.name, call.options.get("scope", "block")), []).append(call.options["damping"])
    damped = {(name, "block") for name, method in METHODS.items() if "damping" in method.options and name not in once}
    assert set(found) == damped | {("fisher", "model")}
    assert all(tuple(dampings) == DAMPINGS for dampings in found.values())
    assert len([c for c in standard_calls((0.5,)) if "damping" in c.options]) == len(damped) + 1


def test_all_stands_for_the_list_and_nothing_comes_twice() -> None:
    assert [str(call) for call in parse_calls(["all"])] == [str(call) for call in standard_calls()]
    calls = parse_calls(["fisher(damping=0.1)", "all", "bm25", "fisher( damping=0.1 )"])
    assert str(calls[0]) == "fisher(damping=0.1)"
    assert sorted(map(str, calls)) == sorted(str(call) for call in standard_calls())
    assert parse_calls([]) == []


def test_needs_are_those_of_the_calls_together() -> None:
    assert needs_of([]) == set()
    assert needs_of([parse("bm25"), parse("random")]) == set()
    assert needs_of([parse("bm25"), parse("repsim")]) == {"hidden"}
    assert needs_of([parse("repsim(model=base)"), parse("fisher")]) == {"hidden", "grams"}


def test_hidden_keys_are_every_representation_once_with_defaults_filled_in() -> None:
    calls = [parse(text) for text in ("repsim", "bm25", "repsim(token=last_prompt)", "repsim(layer=2, token=mean)",
                                      "repsim(model=base)", "fisher", "repsim(layer=-1)")]
    assert hidden_keys(calls) == [("tuned", -1, "last_prompt"), ("tuned", 2, "mean"), ("base", -1, "last_prompt")]
    assert hidden_keys([parse("fisher"), parse("random")]) == []
