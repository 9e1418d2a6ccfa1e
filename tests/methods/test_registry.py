"""The registry: a call is made again from its text, and a mistake in one is named with what is near."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from whence.base.errors import WhenceError
from whence.methods.catalogue import METHODS, standard_calls
from whence.methods.registry import MethodCall, parse

DAMPED = [name for name, method in METHODS.items() if "damping" in method.options]


@given(name=st.sampled_from(DAMPED), damping=st.floats(min_value=0, exclude_min=True, allow_infinity=False))
def test_any_damping_survives_the_way_through_text(name: str, damping: float) -> None:
    call = MethodCall(METHODS[name], {"damping": damping})
    again = parse(str(call))
    assert again == call and str(again) == str(call)
    assert again.options["damping"] == damping and isinstance(again.options["damping"], float)


@given(st.lists(st.sampled_from([("layer", st.integers(-9, 9)), ("token", st.sampled_from(["mean", "last_prompt"])),
                                 ("model", st.sampled_from(["tuned", "base"]))]), unique_by=lambda o: o[0]).flatmap(
    lambda chosen: st.fixed_dictionaries(dict(chosen))))
def test_any_options_survive_the_way_through_text(options: dict[str, int | str]) -> None:
    call = MethodCall(METHODS["repsim"], options)
    assert parse(str(call)) == call


def test_every_standard_call_is_made_again_from_its_text() -> None:
    for call in standard_calls():
        assert parse(str(call)) == call


@pytest.mark.parametrize("text", ["fisher(damping=1.0,scope=model)", " fisher( damping = 1.0 , scope = 'model' ) ",
                                  'fisher(damping=1.0, scope="model",)'])
def test_spaces_and_quotes_do_not_matter(text: str) -> None:
    assert str(parse(text)) == "fisher(damping=1.0, scope=model)"


def test_a_bare_name_has_no_options() -> None:
    assert parse("fisher") == parse("fisher()") == MethodCall(METHODS["fisher"])
    assert str(parse("fisher()")) == "fisher"


@pytest.mark.parametrize(("text", "message"), [
    ("datinf", r"method 'datinf' is not known \(did you mean 'datainf'\?\); there are: .*fisher"),
    ("gradient_dot", r"did you mean 'gradient-dot'\?"),
    ("xyzzy(damping=1)", r"method 'xyzzy' is not known; there are: "),
    ("", r"method '' is not known"),
    ("fisher(daming=1.0)", r"is not one of its options \(did you mean 'damping'\?\); it takes damping=0.1"),
    ("fisher(1.0)", r"'1.0' is not one of its options; it takes damping=0.1, scope=block"),
    ("gradient-dot(damping=1.0)", r"is not one of its options; it takes none"),
    ("fisher(damping=1.0", r"the bracket is not closed; write fisher\(option=value\)"),
])
def test_mistakes_are_named(text: str, message: str) -> None:
    with pytest.raises(WhenceError, match=message):
        parse(text)


def test_options_and_needs_are_those_of_the_functions() -> None:
    assert METHODS["fisher"].options == {"damping": 0.1, "scope": "block", "rule": "block"}
    assert METHODS["repsim"].options == {"layer": -1, "token": "last_prompt", "model": "tuned"}
    assert METHODS["gradient-dot"].options == {}
    for method in METHODS.values():
        assert method.needs <= {"grams", "hidden", "products"}
        assert (method.solver is not None) == ("products" in method.needs)


@pytest.mark.parametrize(("text", "message"), [
    ("fisher(damping=abc)", "expected a number, such as 0.1"),
    ("fisher(damping=inf)", "expected a number"),
    ("fisher(damping=1e999)", "expected a number"),
    ("lissa(iterations=2.5)", "expected a whole number, such as 1000"),
    ("random(seed=x)", "expected a whole number"),
    ("fisher(damping=1, damping=2)", "damping is given twice"),
])
def test_options_have_the_type_of_their_default(text: str, message: str) -> None:
    with pytest.raises(WhenceError, match=message):
        parse(text)


def test_a_whole_number_may_stand_for_a_number() -> None:
    assert parse("fisher(damping=1)").options == {"damping": 1.0}
    assert parse("repsim(layer=-2, token=mean)").options == {"layer": -2, "token": "mean"}
