"""Words of a text, as the lexical baselines count them."""

from __future__ import annotations

import re

from whence.base.errors import WhenceError
from whence.data.examples import Examples

WORD = r"\w+"  # digits are words, and so is a single letter: they are what word problems differ in


def words(text: str) -> list[str]:
    """Lower-case runs of letters, digits and underscores.

    >>> words("Cost = 14 - 6, isn't it?")
    ['cost', '14', '6', 'isn', 't', 'it']
    """
    return re.findall(WORD, text.lower())


def texts(examples: Examples, field: str) -> list[str]:
    """The readable text of each example: its `prompt`, its `response`, or `both` on two lines."""
    if field not in ("prompt", "response", "both"):
        raise WhenceError(f"field={field}: expected prompt, response or both")
    if field == "both":
        return [f"{p}\n{r}" for p, r in zip(examples.prompts, examples.responses, strict=True)]
    return list(examples.prompts if field == "prompt" else examples.responses)
