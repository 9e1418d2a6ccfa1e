"""Conversations: which characters are the assistant's, by the template's own marks and by prefixes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from whence.base.errors import WhenceError
from whence.data.encode import load_examples
from whence.data.examples import Examples

from .conftest import CHATML, CHATML_GENERATION

TALK = [("system", "hello"), ("user", "the question"), ("assistant", "yes"), ("user", "whether"),
        ("assistant", " the answer is 🙂")]


def said(*turns: tuple[str, str]) -> list[dict[str, Any]]:
    return [{"role": role, "content": content} for role, content in turns]


def response_of(examples: Examples, tokenizer: Any) -> str:
    return tokenizer.decode(examples.tokens[0][examples.is_response[0]])


def test_prefixes_give_every_assistant_turn_to_the_end_of_its_rendering(make_tokenizer: Any) -> None:
    tokenizer = make_tokenizer(CHATML)
    examples = load_examples([{"messages": said(*TALK)}], tokenizer)
    assert response_of(examples, tokenizer) == "yes<|im_end|>\n the answer is 🙂<|im_end|>\n"
    ids = tokenizer.apply_chat_template(said(*TALK), return_dict=False)
    assert examples.tokens[0].tolist() == ids  # no BOS or EOS but what the template writes
    assert examples.prompts == ("system: hello\nuser: the question\nassistant: yes\nuser: whether",)
    assert examples.responses == (" the answer is 🙂",)


def test_generation_blocks_give_what_they_mark(make_tokenizer: Any) -> None:
    tokenizer = make_tokenizer(CHATML_GENERATION)
    examples = load_examples([{"messages": said(*TALK)}], tokenizer)
    assert response_of(examples, tokenizer) == "yes<|im_end|> the answer is 🙂<|im_end|>"
    out = tokenizer.apply_chat_template(said(*TALK), return_dict=True, return_assistant_tokens_mask=True)
    assert examples.tokens[0].tolist() == out["input_ids"]
    assert examples.is_response[0].astype(int).tolist() == out["assistant_masks"]


def test_a_block_that_begins_with_a_trimmed_space_is_kept_with_all_that_follow(make_tokenizer: Any) -> None:
    tokenizer = make_tokenizer(CHATML_GENERATION, trim=True)
    talk = said(("user", "a"), ("assistant", "  yes"), ("user", "b"), ("assistant", "no"))
    examples = load_examples([{"messages": talk}], tokenizer)
    assert response_of(examples, tokenizer) == "  yes<|im_end|>no<|im_end|>"


@pytest.mark.parametrize("template", [CHATML, CHATML_GENERATION])
def test_conversational_prompt_and_completion_count_the_completion_alone(template: str,
                                                                         make_tokenizer: Any) -> None:
    tokenizer = make_tokenizer(template)
    row = {"prompt": said(*TALK[:4]), "completion": said(*TALK[4:])}
    examples = load_examples([row], tokenizer)
    end = "" if template == CHATML_GENERATION else "\n"
    assert response_of(examples, tokenizer) == f" the answer is 🙂<|im_end|>{end}"
    whole = load_examples([{"messages": said(*TALK)}], tokenizer)
    assert examples.tokens[0].tolist() == whole.tokens[0].tolist()
    assert (examples.prompts, examples.responses) == (whole.prompts, whole.responses)


def test_user_turns_after_the_last_answer_do_not_count(make_tokenizer: Any) -> None:
    tokenizer = make_tokenizer(CHATML)
    examples = load_examples([{"messages": said(*TALK[1:4])}], tokenizer)
    assert response_of(examples, tokenizer) == "yes<|im_end|>\n"
    assert (examples.prompts, examples.responses) == (("user: the question",), ("yes",))


def test_parquet_and_dataset_conversations(tmp_path: Path, make_tokenizer: Any) -> None:
    tokenizer = make_tokenizer(CHATML + "{% if messages[0].name is defined %}{{ 1 / 0 }}{% endif %}")
    first, second = said(("user", "a"), ("assistant", "yes")), said(("user", "b"), ("assistant", "no"))
    second[1]["name"] = "x"  # so that Arrow gives every other message name=None
    rows = [{"messages": first}, {"messages": second}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet")
    expected = load_examples(rows, tokenizer).content_hash
    assert load_examples(tmp_path / "x.parquet", tokenizer).content_hash == expected
    assert load_examples(Dataset.from_list(rows), tokenizer).content_hash == expected


def test_no_chat_template(tokenizer: Any) -> None:
    with pytest.raises(WhenceError, match=r"the tokenizer has no chat template; set tokenizer\.chat_template"
                                          r", or give text, or prompt and completion as strings, which work"):
        load_examples([{"messages": said(*TALK)}], tokenizer)


LAST_ONLY = "{% for m in messages %}[{{ m.content }}{{ '!' if loop.last else '' }}]{% endfor %}"
REFUSES = "{{ raise_exception('roles must alternate') }}"
MARKS_NONE = "{% for m in messages %}{{ m.content }}{% endfor %}"
MARKS_NONE += "{% if 0 %}{% generation %}x{% endgeneration %}{% endif %}"


@pytest.mark.parametrize(("template", "message"), [
    (LAST_ONLY, r"row 0: cannot tell which characters the assistant says, because the chat template writes "
                r"the first 2 messages differently when more follow; put \{% generation %\} blocks"),
    (REFUSES, r"row 0: the chat template refuses the messages \(roles must alternate\)"),
    (MARKS_NONE, r"row 0: the \{% generation %\} blocks of the chat template mark no text"),
])
def test_templates_that_do_not_do(template: str, message: str, make_tokenizer: Any) -> None:
    with pytest.raises(WhenceError, match=message):
        load_examples([{"messages": said(*TALK)}], make_tokenizer(template))


ANSWER = said(("assistant", "yes"))


@pytest.mark.parametrize(("row", "message"), [
    ({"messages": []}, r"column 'messages': met list \[\]; expected a list of at least one message"),
    ({"messages": "hello"}, r"column 'messages': met str 'hello'"),
    ({"messages": ["hello"]}, r"message 0: met str 'hello'; expected a role and a content"),
    ({"messages": [{"role": "user"}]}, r"message 0, content: no value \(null or left out\); expected a"),
    ({"messages": [{"role": 3, "content": "x"}]}, r"message 0, role: met int 3; expected a string"),
    ({"messages": said(("user", "a"), ("tool", "b"))},
     r"no message has the role 'assistant' \(met user, tool\)"),
    ({"messages": said(("user", "a"), ("assistant", " "))}, r"message 1: the assistant says nothing"),
    ({"prompt": said(("user", "a")), "completion": "b"}, r"column 'completion': met str 'b'"),
    ({"prompt": said(("user", "a")), "completion": said(("user", "b"), ("assistant", "c"))},
     r"column 'completion': begins with the role 'user'; expected 'assistant'"),
])
def test_messages_that_do_not_do(row: dict[str, Any], message: str, make_tokenizer: Any) -> None:
    chat = "messages" in row
    good = {"messages": ANSWER} if chat else {"prompt": said(("user", "a")), "completion": ANSWER}
    with pytest.raises(WhenceError, match="row 1.*" + message):
        load_examples([good, row], make_tokenizer(CHATML))


def test_a_template_of_ours_beside_the_tokenizers_is_refused(make_tokenizer: Any) -> None:
    with pytest.raises(WhenceError, match="these are conversations, so leave it out"):
        load_examples([{"messages": ANSWER}], make_tokenizer(CHATML), template="{prompt}{completion}")
