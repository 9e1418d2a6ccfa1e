"""Conversations as text: the tokenizer's chat template, and which characters of it the assistant says.

The assistant's characters come from the template's own `{% generation %}` blocks where it has them. Otherwise
they are found by rendering prefixes: turn i begins where the rendering of the messages before it ends,
generation prompt included, and ends where the rendering that includes it ends. That needs each of these to be
a beginning of the whole, which is checked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase
from transformers.utils import chat_template_utils

from whence.base.errors import WhenceError
from whence.data.formats import Rendered
from whence.data.rows import Rows, met

Span = tuple[int, int]
GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")  # as transformers looks for it


def render_chat(rows: Rows, names: tuple[str, ...], tokenizer: PreTrainedTokenizerBase) -> list[Rendered]:
    """Each conversation (the columns `names`, joined) as the tokenizer's chat template writes it.

    Assistant turns count: all of `messages`, or those of `completion` with prompt and completion.

    Raises `WhenceError` for a tokenizer without chat template, a cell that is no list of messages, a turn in
    which the assistant says nothing, and a template from which its words cannot be told.
    """
    template = _template(rows, tokenizer)
    rendered = []
    for row in range(len(rows)):
        parts = [_messages(rows, name, row) for name in names]
        _check_turns(parts[-1], rows.where(row, names[-1]), names[-1])
        chat = _Chat([message for part in parts for message in part], template, tokenizer, rows.where(row))
        text, spans = chat.spans(first=sum(len(part) for part in parts[:-1]))
        last = max(i for i, message in enumerate(chat.messages) if message["role"] == "assistant")
        prompt = "\n".join(f"{message['role']}: {message['content']}" for message in chat.messages[:last])
        rendered.append(Rendered(text, spans, prompt, chat.messages[last]["content"]))
    return rendered


@dataclass(frozen=True)
class _Chat:
    messages: list[dict[str, Any]]
    template: str
    tokenizer: PreTrainedTokenizerBase
    where: str

    def spans(self, first: int) -> tuple[str, tuple[Span, ...]]:
        """The whole rendering, and (begin, end) of what the assistant says from message `first` on."""
        text, blocks = self.render(len(self.messages), generation_prompt=False)
        if GENERATION.search(self.template):
            begin = self.end_of(first, text, generation_prompt=True)
            spans = tuple((a, b) for a, b in blocks if b > max(a, begin))
        else:
            turns = [i for i in range(first, len(self.messages)) if self.messages[i]["role"] == "assistant"]
            spans = tuple((self.end_of(i, text, True), self.end_of(i + 1, text, False)) for i in turns)
        if not spans:
            raise WhenceError(f"{self.where}: the {{% generation %}} blocks of the chat template mark "
                              f"no text of the assistant; mend the template")
        return text, spans

    def end_of(self, count: int, text: str, generation_prompt: bool) -> int:
        """Characters of the rendering of the first `count` messages, which must begin `text`."""
        if count == 0:
            return 0
        beginning, _ = self.render(count, generation_prompt)
        if not text.startswith(beginning):
            raise WhenceError(f"{self.where}: cannot tell which characters the assistant says, because the "
                              f"chat template writes the first {count} messages differently when more "
                              f"follow; put {{% generation %}} blocks around the assistant's words in it")
        return len(beginning)

    def render(self, count: int, generation_prompt: bool) -> tuple[str, list[Span]]:
        """The rendering of the first `count` messages, and (begin, end) of its `{% generation %}` blocks.

        This is what `apply_chat_template` calls. That method itself turns the blocks into tokens and forgets
        every block after one whose first character lies in no token (a space trimmed from the offsets).
        """
        render: Any = chat_template_utils.render_jinja_template  # annotated as str, returns a pair
        try:
            texts, blocks = render(
                conversations=[self.messages[:count]], chat_template=self.template,
                return_assistant_tokens_mask=bool(GENERATION.search(self.template)),
                add_generation_prompt=generation_prompt, **self.tokenizer.special_tokens_map)
        except TemplateError as error:
            raise WhenceError(f"{self.where}: the chat template refuses the messages ({error})") from None
        return texts[0], blocks[0] if blocks else []


def _template(rows: Rows, tokenizer: PreTrainedTokenizerBase) -> str:
    try:
        return tokenizer.get_chat_template()
    except ValueError:
        raise WhenceError(f"{rows.source}: holds messages, but the tokenizer has no chat template; set "
                          f"tokenizer.chat_template, or give text, or prompt and completion as strings, "
                          f"which work without") from None


def _messages(rows: Rows, name: str, row: int) -> list[dict[str, Any]]:
    cell = rows.columns[name][row]
    where = rows.where(row, name)
    if not isinstance(cell, list) or not cell:
        raise WhenceError(f"{where}: {met(cell)}; expected a list of at least one message")
    for i, message in enumerate(cell):
        if not isinstance(message, dict):
            raise WhenceError(f"{where}, message {i}: {met(message)}; expected a role and a content")
        for key in ("role", "content"):
            if not isinstance(message.get(key), str):
                raise WhenceError(f"{where}, message {i}, {key}: {met(message.get(key))}; expected a string")
    # Parquet fills a key that one message has with None in all others.
    return [{key: value for key, value in message.items() if value is not None} for message in cell]


def _check_turns(messages: list[dict[str, Any]], where: str, name: str) -> None:
    roles = [message["role"] for message in messages]
    if "assistant" not in roles:
        raise WhenceError(f"{where}: no message has the role 'assistant' (met {', '.join(roles)})")
    if name == "completion" and roles[0] != "assistant":
        raise WhenceError(f"{where}: begins with the role {roles[0]!r}; expected 'assistant'")
    for i, message in enumerate(messages):
        if message["role"] == "assistant" and not message["content"].strip():
            raise WhenceError(f"{where}, message {i}: the assistant says nothing; expected at least one "
                              f"character that is not whitespace. Leave the row out")
