"""Text, and prompt + completion, as tokens and masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PythonBackend

from whence.base.errors import WhenceError
from whence.data.encode import describe, encode, load_examples
from whence.data.examples import Examples
from whence.data.read import read_rows

PAIRS = [("the question is", " whether"), ("hello,", " world"), ("the", " answer is no."), ("", "yes"),
         ("naïve → ", "ça va 🙂 yes"), ("the answer:\n", "no\nno  "), ("hello world\n\n", "  yes")]


def pairs(*both: tuple[Any, Any]) -> list[dict[str, Any]]:
    return [{"prompt": prompt, "completion": completion} for prompt, completion in both]


def response_of(examples: Examples, row: int, tokenizer: Any) -> str:
    return tokenizer.decode(examples.tokens[row][examples.is_response[row]])


@pytest.mark.parametrize("trim", [False, True])
@pytest.mark.parametrize("pair", PAIRS)
def test_the_mask_decodes_to_the_completion_and_eos(pair: tuple[str, str], trim: bool,
                                                    make_tokenizer: Any) -> None:
    tokenizer = make_tokenizer(trim=trim)
    examples = load_examples(pairs(pair), tokenizer)
    assert response_of(examples, 0, tokenizer) == pair[1] + "</s>"
    assert tokenizer.decode(examples.tokens[0]) == "<s>" + "".join(pair) + "</s>"
    assert (examples.prompts[0], examples.responses[0]) == pair


def test_prompt_and_completion_are_tokenised_jointly_and_a_straddling_token_counts(tokenizer: Any) -> None:
    examples = load_examples(pairs(("say hel", "lo world")), tokenizer)
    assert examples.tokens[0].tolist() == [*tokenizer("say hello world")["input_ids"], tokenizer.eos_token_id]
    assert response_of(examples, 0, tokenizer) == " hello world</s>"  # one token is " hello"
    assert len(tokenizer.tokenize(" hello")) == 1


SOME = st.text(alphabet="helo wrd,é🙂\n", min_size=0, max_size=12)


@given(prompt=SOME, completion=SOME.filter(str.strip))
def test_what_counts_ends_with_the_completion_and_begins_at_most_one_token_early(
        make_tokenizer: Any, prompt: str, completion: str) -> None:
    tokenizer = make_tokenizer()
    examples = load_examples(pairs((prompt, completion)), tokenizer)
    mask, ids = examples.is_response[0], examples.tokens[0]
    first = int(np.flatnonzero(mask)[0])
    assert mask[first:].all()
    assert tokenizer.decode(ids[first:]).endswith(completion + "</s>")
    assert prompt.startswith(tokenizer.decode(ids[1:first]))
    assert len(tokenizer.decode(ids[1 : first + 1])) > len(prompt)


def test_template_surrounds_and_what_follows_the_completion_counts(tokenizer: Any) -> None:
    template = "[INST] {prompt} {x} [/INST] {completion} END"
    rows = pairs(("the {completion}", "yes"), ("hello", "no"))
    examples = load_examples(rows, tokenizer, template=template)
    assert tokenizer.decode(examples.tokens[0]) == "<s>[INST] the {completion} {x} [/INST] yes END</s>"
    assert [response_of(examples, row, tokenizer) for row in (0, 1)] == [" yes END</s>", " no END</s>"]
    assert examples.prompts == ("the {completion}", "hello")


@pytest.mark.parametrize(("template", "message"), [
    ("{prompt} only", r"holds \{prompt\} 1 times and \{completion\} 0 times; expected each once"),
    ("{prompt}{prompt}{completion}", r"holds \{prompt\} 2 times"),
    ("{completion} then {prompt}", r"\{completion\} stands before \{prompt\}"),
])
def test_a_template_that_does_not_fit_is_refused(template: str, message: str, tokenizer: Any) -> None:
    with pytest.raises(WhenceError, match=message):
        load_examples(pairs(("a", "b")), tokenizer, template=template)


def test_a_template_for_plain_text_is_refused(tokenizer: Any) -> None:
    with pytest.raises(WhenceError, match="these are plain text, so leave it out"):
        load_examples([{"text": "hello"}], tokenizer, template="{prompt}{completion}")


def test_text_counts_whole_but_for_position_0(make_tokenizer: Any) -> None:
    with_bos, without = make_tokenizer(), make_tokenizer(single="$A")
    for tokenizer, counted in ((with_bos, "oh hello yes</s>"), (without, " hello yes</s>")):
        examples = load_examples([{"text": "oh hello yes"}], tokenizer)
        assert response_of(examples, 0, tokenizer) == counted
        assert not examples.is_response[0][0] and examples.is_response[0][1:].all()
        assert (examples.prompts, examples.responses) == (("",), ("oh hello yes",))


@pytest.mark.parametrize("single", ["<s> $A", "<s> $A </s>"])
@pytest.mark.parametrize("written", ["yes", "yes</s>", "yes</s></s>"])
@pytest.mark.parametrize("kind", ["text", "pair"])
def test_there_is_one_eos_whoever_writes_it_and_it_counts(single: str, written: str, kind: str,
                                                          make_tokenizer: Any) -> None:
    tokenizer = make_tokenizer(single=single)
    rows = [{"text": written}] if kind == "text" else pairs(("the\n", written))
    examples = load_examples(rows, tokenizer)
    assert response_of(examples, 0, tokenizer) == "yes</s>"


def test_without_eos_nothing_is_added(make_tokenizer: Any) -> None:
    tokenizer = make_tokenizer(eos_token=None)
    assert response_of(load_examples(pairs(("the", " yes")), tokenizer, eos=False), 0, tokenizer) == " yes"
    with pytest.raises(WhenceError, match="no EOS token"):
        load_examples(pairs(("the", " yes")), tokenizer)


def test_bos_twice_is_refused(tokenizer: Any) -> None:
    with pytest.raises(WhenceError, match="row 1: begins with '<s>' twice"):
        load_examples([{"text": "hello"}, {"text": "<s>hello"}], tokenizer)


def test_truncation_cuts_the_tail_and_is_counted(tokenizer: Any) -> None:
    rows = pairs(("the", " answer is yes"), ("the", " yes"))
    whole, cut = load_examples(rows, tokenizer), load_examples(rows, tokenizer, max_length=4)
    assert cut.truncated == (True, False) and whole.truncated == (False, False)
    for before, after in zip(whole.tokens, cut.tokens, strict=True):
        assert after.tolist() == before[:4].tolist()
    assert response_of(cut, 0, tokenizer) == " answer is"
    assert describe(cut) == "2 examples, 8 tokens (4 in responses), 1 truncated at 4, longest 4"
    assert describe(whole) == "2 examples, 10 tokens (6 in responses), 0 truncated, longest 6"


def test_the_line_to_print_groups_thousands() -> None:
    tokens, mask = np.zeros(1234, dtype=np.int64), np.ones(1234, dtype=bool)
    many = Examples(("a",), (None,), ("",), ("",), (tokens,), (mask,), (False,))
    assert describe(many) == "1 examples, 1,234 tokens (1,234 in responses), 0 truncated, longest 1,234"


def test_responses_that_are_cut_off_whole_are_refused_with_the_length_that_would_do(tokenizer: Any) -> None:
    rows = pairs(("the", " yes"), ("the answer is", " yes"), ("the answer is the", " yes"))
    with pytest.raises(WhenceError, match=r"row 1: has 6 tokens, and the response begins with token 5.*at "
                                          r"max_length 4 \(rows like this: 2 of 3\); use a max_length of at "
                                          r"least 6, or leave such rows out"):
        load_examples(rows, tokenizer, max_length=4)
    assert response_of(load_examples(rows, tokenizer, max_length=6), 2, tokenizer) == " yes"


@pytest.mark.parametrize(("rows", "message"), [
    (pairs(("a", "b"), ("a", "")), r"row 1, column 'completion': is empty"),
    (pairs(("a", " \n")), r"row 0, column 'completion': is empty"),
    ([{"text": "a"}, {"text": "\t"}], r"row 1, column 'text': is empty"),
    (pairs(("a", 3)), r"row 0, column 'completion': met int 3; expected a string$"),
    (pairs(("a", "b"), (["x"], "b")),
     r"row 1, column 'prompt': met list \['x'\]; expected a string, as in the rows"),
    (pairs(("a", [{"role": "assistant", "content": "b"}])), r"row 0, column 'completion': met list"),
    ([{"prompt": "a", "completion": "b"}, {"prompt": "a"}], r"row 1, column 'completion': no value"),
    ([{"text": "a", "id": "x"}, {"text": "a"}], r"row 1, column 'id': no value"),
    ([{"text": "a", "group": 0.5}], r"row 0, column 'group': met float 0.5; expected a string or a whole"),
    ([{"text": "a", "id": "x"}, {"text": "b", "id": "x"}], r"id 'x' occurs more than once"),
])
def test_bad_cells_are_named(rows: list[dict[str, Any]], message: str, tokenizer: Any) -> None:
    with pytest.raises(WhenceError, match=message):
        load_examples(rows, tokenizer)


def test_a_mapped_column_is_named_as_written(tokenizer: Any) -> None:
    rows = read_rows([{"q": "a", "a": ""}], {"prompt": "q", "completion": "a"})
    with pytest.raises(WhenceError, match=r"the list given, row 0, column 'a' \(completion\): is empty"):
        encode(rows, tokenizer)


def test_ids_and_groups(tokenizer: Any) -> None:
    assert load_examples([{"text": "a"}, {"text": "b"}], tokenizer).ids == ("0", "1")
    examples = load_examples([{"text": "a", "id": 7, "group": True}, {"text": "b", "id": "x"}], tokenizer)
    assert (examples.ids, examples.groups) == (("7", "x"), ("True", None))


def test_more_rows_than_are_tokenised_at_a_time_stay_in_order(tokenizer: Any,
                                                              monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pairs(*((f"row {i}", f" is {i}") for i in range(7)))
    whole = load_examples(rows, tokenizer)
    monkeypatch.setattr("whence.data.encode.ROWS_AT_A_TIME", 3)
    assert load_examples(rows, tokenizer).content_hash == whole.content_hash
    with pytest.raises(WhenceError, match="row 6: begins with '<s>' twice"):
        load_examples([*rows[:6], *pairs(("<s>", "yes"))], tokenizer)


def test_a_response_of_which_nothing_is_left_is_refused(forgetful: Any, make_tokenizer: Any) -> None:
    with pytest.raises(WhenceError, match="row 1: the tokenizer makes no token of the response 'xyz'"):
        load_examples(pairs(("ab", "b"), ("ab", "xyz")), forgetful)
    with pytest.raises(WhenceError, match="row 0: the only token is the first one"):
        load_examples([{"text": "a"}], make_tokenizer(single="$A"), eos=False)


@pytest.mark.parametrize("limit", [1, 0, -3])
def test_a_maximum_length_without_room_is_refused(limit: int, tokenizer: Any) -> None:
    with pytest.raises(WhenceError, match=f"max_length {limit}: expected at least 2"):
        load_examples([{"text": "hello"}], tokenizer, max_length=limit)


class Slow(PythonBackend):
    """One id a character, in Python."""

    @property
    def vocab_size(self) -> int:
        return 128

    def get_vocab(self) -> dict[str, int]:
        return {chr(i): i for i in range(128)}


def test_a_slow_tokenizer_is_refused() -> None:
    with pytest.raises(WhenceError, match="Slow is a slow tokenizer, which gives no character offsets"):
        load_examples([{"text": "a"}], Slow())


def test_the_callers_state_of_the_tokenizer_does_not_cut_or_pad(tokenizer: Any) -> None:
    rows = [{"text": "hello world yes no"}, {"text": "no"}]
    plain = load_examples(rows, tokenizer)
    tokenizer(["hello world yes", "no"], padding=True, truncation=True, max_length=3)
    assert load_examples(rows, tokenizer).content_hash == plain.content_hash
