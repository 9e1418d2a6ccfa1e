"""Class attribution where words say nothing: the class is which of the words is copied, and no word occurs twice.

Every prompt is of made-up words that no other row has, so no lexical method can tell one training row from another:
beside the frame, a query shares nothing with any of them. What a model does with a query follows from the rules of the
rows it was trained on, and from nothing else. (Ties of a lexical method are broken by chance or by length.)
"""

from __future__ import annotations

import random

from whence.base.errors import WhenceError
from whence.tasks.task import Task, check_sizes, class_task, draw_distinct, shuffled_rows

PLACES = ("first", "second", "third", "last")
CONSONANTS, VOWELS = "bcdfghjklmnprstvwz", "aeiou"
FRAME = "Out of {words} take one:\n"


def copying_task(n_classes: int = 4, train_per_class: int = 30, queries_per_class: int = 5, seed: int = 0) -> Task:
    """The first `n_classes` of four rules: copy the first, second, third or last of four words.

        Out of bado gemu ruta sile take one:  =>  bado          class "first"

    Raises:
        WhenceError: a size below 1, a number of classes that is not 2 to 4, more rows than words.
    """
    check_sizes(train_per_class=train_per_class, queries_per_class=queries_per_class)
    if not 2 <= n_classes <= len(PLACES):
        raise WhenceError(f"n_classes={n_classes}: expected 2 to {len(PLACES)}, the number of places")
    rng, per_class = random.Random(seed), train_per_class + queries_per_class
    words = iter(draw_distinct(lambda: made_up_word(rng), 4 * n_classes * per_class, "made-up words"))
    train, queries = [], []
    for place, rule in enumerate(PLACES[:n_classes]):
        own = [(rule, *example([next(words) for _ in range(4)], place)) for _ in range(per_class)]
        train += own[:train_per_class]
        queries += own[train_per_class:]
    return class_task(shuffled_rows(train, rng, "train"), shuffled_rows(queries, rng, "query"), name="copying")


def made_up_word(rng: random.Random) -> str:
    """Two syllables of a consonant and a vowel."""
    return "".join(rng.choice(letters) for letters in (CONSONANTS, VOWELS, CONSONANTS, VOWELS))


def example(words: list[str], place: int) -> tuple[str, str]:
    """Prompt and completion."""
    return FRAME.format(words=" ".join(words)), words[place]
