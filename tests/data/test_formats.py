"""Which format the columns say, and what is said where they say none or two."""

from __future__ import annotations

import pytest

from whence.base.errors import WhenceError
from whence.data.formats import recognise
from whence.data.read import read_rows


@pytest.mark.parametrize(("names", "columns", "expected"), [
    (["text", "source"], None, "text"),
    (["prompt", "completion", "id"], None, "prompt+completion"),
    (["messages", "prompt"], None, "messages"),
    (["q", "completion"], {"prompt": "q"}, "prompt+completion"),
    (["text", "prompt", "completion"], {"text": "text"}, "text"),  # what is mapped decides
    (["text", "prompt", "completion"], {"completion": "completion"}, "prompt+completion"),
    (["text", "prompt", "completion"], {"text": "prompt", "group": "completion"}, "text"),
])
def test_the_columns_say_the_format(names: list[str], columns: dict[str, str] | None, expected: str) -> None:
    assert recognise(read_rows([dict.fromkeys(names, "x")], columns)) == expected


@pytest.mark.parametrize(("names", "columns", "message"), [
    (["prompts", "response"], None,
     r"the list given: the columns \(prompts, response\) fit no format; is 'prompts' the prompt\?\. The "
     r"formats are: text; prompt and completion; messages\. Point to the columns of one with --columns"),
    (["prompt"], None, r"\(prompt\) fit no format\. The formats"),
    (["text", "messages"], None, r"fit more than one format \(text and messages\)\. The formats are"),
    (["text", "q"], {"prompt": "q"}, r"fit no format"),
    (["a", "b"], {"text": "a", "prompt": "b"}, r"fit no format"),
])
def test_none_or_two_is_an_error_that_lists_the_formats(names: list[str], columns: dict[str, str] | None,
                                                        message: str) -> None:
    with pytest.raises(WhenceError, match=message):
        recognise(read_rows([dict.fromkeys(names, "x")], columns))
