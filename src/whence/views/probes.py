"""Probes: texts made up to ask what a query's influence responds to, scored as if they had been trained on.

Each probe is a text in a named partition and belongs to one query: the query's own words, reversed, without the
answer, about something else. They are scored as training rows are, against the stored query. Where the order of two
phrases decides (Grosse et al. 2023, arXiv 2308.03296, section 5.3.4: sequences in which the completion stands before
the prompt have at least ten times less influence), the model has not learnt the relation both ways.

Plain texts, in which every token counts; no chat template.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from whence.base.errors import WhenceError
from whence.views.word_order import FACTS

AS_GIVEN, PARAPHRASE, TRANSLATION = "as given", "paraphrase", "translation"
FLIPPED, FLIPPED_BARE, REVERSED = "order flipped", "order flipped, relation removed", "words reversed"
NO_COMPLETION, NO_RELATION, CHANGED = "completion removed", "relation removed", "meaning changed"
IRRELEVANT = "irrelevant"
KEPT = (AS_GIVEN, PARAPHRASE)  # order kept; what the ratio compares with
TURNED = (FLIPPED, FLIPPED_BARE)
UNRELATED = ("Loose gravel on the northern path is raked flat again every spring.",
             "A good umbrella is judged by its hinges and not by its cloth.",
             "The bakery opens at six and sells out of rye before nine.")


@dataclass(frozen=True)
class ProbeQuery:
    """What is asked: the log-probability of `completion` after `prompt`."""

    name: str
    prompt: str
    completion: str


@dataclass(frozen=True)
class Probe:
    """A text to be scored against the query of this name."""

    query: str
    partition: str
    text: str


@dataclass(frozen=True)
class ProbeSuite:
    """Queries and their probes; `query_rows` and `text_rows` are what `load_examples` takes.

    Raises:
        WhenceError: two queries of one name, a probe of no query, an empty text.
    """

    queries: tuple[ProbeQuery, ...]
    probes: tuple[Probe, ...]

    def __post_init__(self) -> None:
        names = [query.name for query in self.queries]
        if len(set(names)) != len(names):
            raise WhenceError(f"two of the queries have one name: {', '.join(names)}")
        for probe in self.probes:
            if probe.query not in names:
                raise WhenceError(f"a probe belongs to the query {probe.query!r}; expected one of {', '.join(names)}")
            if not probe.text.strip():
                raise WhenceError(f"query {probe.query!r}: a probe {probe.partition!r} is empty; leave it out")

    def query_rows(self) -> list[dict[str, str]]:
        """Rows of `id`, `prompt`, `completion`; the space between prompt and completion is there."""
        rows = []
        for query in self.queries:
            gap = "" if query.prompt[-1:].isspace() or query.completion[:1].isspace() else " "
            rows.append({"id": query.name, "prompt": query.prompt, "completion": gap + query.completion})
        return rows

    def text_rows(self) -> list[dict[str, str]]:
        """Rows of `id`, `text`, `group` (the partition), in the order of the probes."""
        return [{"id": f"probe {i}: {probe.query}, {probe.partition}", "text": probe.text, "group": probe.partition}
                for i, probe in enumerate(self.probes)]

    @property
    def own(self) -> Bool[np.ndarray, "Q R"]:
        """True where a probe (column) belongs to a query (row)."""
        return np.array([[probe.query == query.name for probe in self.probes] for query in self.queries], dtype=bool)


def variants(prompt: str, response: str, *, paraphrases: Sequence[str] = (), translations: Sequence[str] = (),
             relation: str | None = None, irrelevant: Sequence[str] = UNRELATED, name: str = "query") -> ProbeSuite:
    """Probes of one (prompt, response) pair.

    Made here: as given; order flipped (response, then prompt); words reversed; completion removed; with `relation`
    (a phrase of the prompt) also relation removed, in both orders. Given by the user: paraphrases, translations,
    irrelevant texts.

    >>> [probe.text for probe in variants("The sea is", "blue.", relation="is", irrelevant=()).probes]
    ['The sea is blue.', 'blue. The sea is', 'blue. is sea The', 'The sea is', 'The sea blue.', 'blue. The sea']

    Raises:
        WhenceError: an empty prompt or response; a relation that the prompt does not hold, or that is all of it.
    """
    if not prompt.strip() or not response.strip():
        raise WhenceError(f"prompt {prompt!r} and response {response!r}: probes need both, neither empty")
    joined = _join(prompt, response)
    texts = [(AS_GIVEN, joined), *((PARAPHRASE, text) for text in paraphrases),
             *((TRANSLATION, text) for text in translations), (FLIPPED, _join(response, prompt)),
             (REVERSED, " ".join(reversed(joined.split()))), (NO_COMPLETION, prompt)]
    if relation is not None:
        rest = " ".join(prompt.replace(relation, " ", 1).split()) if relation else prompt
        if not relation or relation not in prompt or not rest:
            raise WhenceError(f"relation {relation!r}: expected a phrase of the prompt {prompt!r}, and not all of it")
        texts += [(NO_RELATION, _join(rest, response)), (FLIPPED_BARE, _join(response, rest))]
    texts += [(IRRELEVANT, text) for text in irrelevant]
    return ProbeSuite((ProbeQuery(name, prompt, response),), tuple(Probe(name, part, text) for part, text in texts))


def word_order_suite() -> ProbeSuite:
    """Made-up facts that no training data holds, each with several sequences in six partitions (`word_order.py`).

    The protocol of Grosse et al. 2023, section 5.3.4, with facts of our own: paraphrase (order kept), completion
    removed, meaning changed, irrelevant, order flipped, order flipped with the relation removed.
    """
    queries = tuple(ProbeQuery(fact.name, fact.prompt, fact.completion) for fact in FACTS)
    return ProbeSuite(queries, tuple(Probe(fact.name, partition, text) for fact in FACTS for partition, texts in (
        (PARAPHRASE, fact.paraphrases), (NO_COMPLETION, fact.completion_removed), (CHANGED, fact.meaning_changed),
        (IRRELEVANT, fact.irrelevant), (FLIPPED, fact.flipped), (FLIPPED_BARE, fact.flipped_bare)) for text in texts))


def _join(first: str, second: str) -> str:
    """Both texts, with the whitespace between them that is there, or one space."""
    gap = "" if first[-1:].isspace() or second[:1].isspace() else " "
    return (first + gap + second).strip()
