"""Class attribution on sentence transformations: the class is the rule that was applied.

After the paper's `grammars` set: a short sentence, the same after a rule, and the rule's name as the answer.
There the response equals the label, so a text method that sees responses is right at once;
`answer="sentence"` turns it round (then the rule's name is in the prompt).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Literal

from whence.base.errors import WhenceError
from whence.tasks.task import Task, check_sizes, class_task, draw_distinct, shuffled_rows

Answer = Literal["rule", "sentence"]

ADJECTIVES = ("quiet", "small", "brave", "clever", "golden", "gentle", "happy", "young", "old", "silver",
              "tall", "warm")
NOUNS = ("birds", "foxes", "rivers", "farmers", "sailors", "teachers", "horses", "clouds", "gardens",
         "painters", "kittens", "bakers", "lanterns", "bridges", "dancers", "wolves")
VERBS = ("follow", "watch", "paint", "visit", "remember", "carry", "greet", "draw", "find", "love", "guard",
         "join")
ENDS = ("today", "again", "slowly", "tonight", "gladly", "outside")

RULES: dict[str, Callable[[list[str]], str]] = {
    "reverse words": lambda words: " ".join(reversed(words)),
    "capitalise words": lambda words: " ".join(word.capitalize() for word in words),
    "uppercase letters": lambda words: " ".join(words).upper(),
    "insert a star": lambda words: " star ".join(words),
    "remove vowels": lambda words: " ".join("".join(c for c in word if c not in "aeiou") for word in words),
    "swap first and last": lambda words: " ".join([words[-1], *words[1:-1], words[0]]),
    "double last letters": lambda words: " ".join(word + word[-1] for word in words),
    "pig latin": lambda words: " ".join(word[1:] + word[0] + "ay" for word in words),
    "add a prefix": lambda words: " ".join(["indeed", *words]),
    "add a suffix": lambda words: " ".join([*words, "of course"]),
    "sort words": lambda words: " ".join(sorted(words)),
    "repeat words": lambda words: " ".join(f"{word} {word}" for word in words),
    "join with hyphens": lambda words: "-".join(words),
}


def grammar_task(n_classes: int = 10, train_per_class: int = 90, queries_per_class: int = 10, seed: int = 0,
                 answer: Answer = "rule") -> Task:
    """The first `n_classes` of `RULES`, each on its own sentences; no sentence occurs twice.

        answer="rule"       quiet birds greet foxes -> foxes greet birds quiet. Rule?  =>  reverse words
        answer="sentence"   reverse words: quiet birds greet foxes  =>  foxes greet birds quiet

    Raises:
        WhenceError: a size below 1, a number of classes that is not 2 to 13, more rows than sentences.
    """
    check_sizes(train_per_class=train_per_class, queries_per_class=queries_per_class)
    if not 2 <= n_classes <= len(RULES):
        raise WhenceError(f"n_classes={n_classes}: expected 2 to {len(RULES)}, the number of rules")
    rng = random.Random(seed)
    per_class = train_per_class + queries_per_class
    sentences = draw_distinct(lambda: _sentence(rng), n_classes * per_class, "grammar sentences")
    train, queries = [], []
    for c, rule in enumerate(list(RULES)[:n_classes]):
        own = [(rule, *_example(rule, sentence, answer))
               for sentence in sentences[c * per_class : (c + 1) * per_class]]
        train += own[:train_per_class]
        queries += own[train_per_class:]
    rows = shuffled_rows(train, rng, "train"), shuffled_rows(queries, rng, "query")
    return class_task(*rows, name="grammar")


def _sentence(rng: random.Random) -> str:
    """Four to six words on which every rule does something, and no two the same."""
    while True:
        words = [rng.choice(ADJECTIVES), rng.choice(NOUNS), rng.choice(VERBS), rng.choice(NOUNS)]
        if rng.random() < 0.5:
            words.insert(3, rng.choice(ADJECTIVES))
        if rng.random() < 0.5:
            words.append(rng.choice(ENDS))
        sentence = " ".join(words)
        if len({sentence, *(rule(words) for rule in RULES.values())}) == 1 + len(RULES):
            return sentence


def _example(rule: str, sentence: str, answer: str) -> tuple[str, str]:
    """Prompt and completion.

    A prompt ends with a line break, which byte-level BPE never joins with the letter behind it: a prompt
    alone has the same tokens as before its completion. So it is in all built-in tasks.
    """
    changed = RULES[rule](sentence.split())
    if answer == "rule":
        return f"{sentence} -> {changed}. Rule?\n", rule
    if answer == "sentence":
        return f"{rule}: {sentence}\n", changed
    raise WhenceError(f"answer={answer!r}: expected 'rule' or 'sentence'")
