"""The three formats (as TRL defines them), recognised by their columns; each row as one text with its spans.

    text                   plain text; every token counts
    prompt + completion    two strings, or two lists of messages; the completion counts
    messages               a list of {"role", "content"}; the assistant turns count
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from whence.base.errors import WhenceError
from whence.data.rows import Rows, met, near_miss

Format = Literal["text", "prompt+completion", "messages"]
NEEDS: dict[Format, tuple[str, ...]] = {
    "text": ("text",), "prompt+completion": ("prompt", "completion"), "messages": ("messages",)}


@dataclass(frozen=True)
class Rendered:
    """One row as the text a tokenizer gets.

    Attributes:
        text: the whole.
        spans: (begin, end) in characters of each stretch whose tokens count in the loss.
        prompt, response: what a person reads.
    """

    text: str
    spans: tuple[tuple[int, int], ...]
    prompt: str
    response: str


def recognise(rows: Rows) -> Format:
    """The one format whose columns are all there; a column that the caller mapped must be one of them.

    Raises `WhenceError` where no format or more than one fits.
    """
    pinned = set(rows.mapped) - {"id", "group"}
    fits = [name for name, needs in NEEDS.items()
            if set(needs) <= rows.columns.keys() and pinned <= set(needs)]
    if len(fits) == 1:
        return fits[0]
    fit = "fit no format" if not fits else f"fit more than one format ({' and '.join(fits)})"
    likely = {name: near_miss(name, rows.columns) for needs in NEEDS.values() for name in needs}
    hints = "".join(f"; is {theirs!r} the {name}?" for name, theirs in likely.items()
                    if theirs is not None and name not in rows.columns)
    raise WhenceError(f"{rows.source}: the columns ({', '.join(rows.columns)}) {fit}{hints}. The formats "
                      f"are: text; prompt and completion; messages. Point to the columns of one with "
                      f"--columns, such as --columns prompt=question,completion=answer")


def render_text(rows: Rows) -> list[Rendered]:
    """Each row of `text`: all of it counts."""
    return [Rendered(text, ((0, len(text)),), "", text) for text in _strings(rows, "text")]


def render_completion(rows: Rows, template: str | None) -> list[Rendered]:
    """Each row of `prompt` and `completion`, joined as they stand or put into `template`.

    What counts begins with the completion and ends with the text, so that what a template says after the
    completion counts too. Raises `WhenceError` for a template that does not hold `{prompt}` and then
    `{completion}`, each once.
    """
    before, between, after = _pieces("{prompt}{completion}" if template is None else template)
    prompts, completions = _strings(rows, "prompt", blank=True), _strings(rows, "completion")
    rendered = []
    for prompt, completion in zip(prompts, completions, strict=True):
        opening = before + prompt + between
        text = opening + completion + after
        rendered.append(Rendered(text, ((len(opening), len(text)),), prompt, completion))
    return rendered


def _pieces(template: str) -> tuple[str, str, str]:
    counts = {name: template.count(name) for name in ("{prompt}", "{completion}")}
    if set(counts.values()) != {1}:
        held = " and ".join(f"{name} {count} times" for name, count in counts.items())
        raise WhenceError(f"template {template!r}: holds {held}; expected each once, "
                          f'such as "[INST] {{prompt}} [/INST] {{completion}}"')
    before, _, rest = template.partition("{prompt}")
    between, found, after = rest.partition("{completion}")
    if not found:
        raise WhenceError(f"template {template!r}: {{completion}} stands before {{prompt}}; put it after")
    return before, between, after


def _strings(rows: Rows, name: str, blank: bool = False) -> list[str]:
    """The cells of a column, each checked to be a string and, unless `blank`, more than whitespace."""
    cells = rows.columns[name]
    for row, cell in enumerate(cells):
        if not isinstance(cell, str):
            raise WhenceError(f"{rows.where(row, name)}: {met(cell)}; expected a string"
                              + (", as in the rows before" if row else ""))
        if not blank and not cell.strip():
            raise WhenceError(f"{rows.where(row, name)}: is empty; expected at least one character "
                              f"that is not whitespace. Leave the row out")
    return cells
