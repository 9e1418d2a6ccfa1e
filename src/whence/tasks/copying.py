"""Class attribution where words say nothing: the class is which of the words is copied, and no word occurs twice.

Every prompt is of made-up words that no other row has, so no lexical method can tell one training row from another:
beside the frame, a query shares nothing with any of them. What a model does with a query follows from the rules of the
rows it was trained on, and from nothing else. (Ties of a lexical method are broken by chance or by length.)

Crossed, words say the opposite of the truth. There is a frame for each rule r; its training rows stand in every frame
but frame r, all its queries in frame r. Whatever of the training rows looks like a query is of another rule, and
nothing of the query's own rule shares a word with it:

    one frame   same surface, another rule      lexical scores are all tied
    crossed     another surface, the same rule  lexical scores put rows of other rules first: Acc 0
"""

from __future__ import annotations

import random

from whence.base.errors import WhenceError
from whence.tasks.task import Task, check_sizes, class_task, draw_distinct, shuffled_rows

PLACES = ("first", "second", "third", "last")
CONSONANTS, VOWELS = "bcdfghjklmnprstvwz", "aeiou"
FRAMES = (  # two words before and two after, one mark; nothing in common, so all are equally far from each other
    "Out of {words} take one:\n",
    "Given these {words} which fits?\n",
    "Choose from {words} and answer!\n",
    "Among all {words} just pick;\n",
)
FRAME = FRAMES[0]
FRAME_WORDS = {word.strip(":?!;").lower() for frame in FRAMES for word in frame.format(words="").split()}


def copying_task(n_classes: int = 4, train_per_class: int = 30, queries_per_class: int = 5, seed: int = 0,
                 crossed: bool = False, pool: int = 0) -> Task:
    """The first `n_classes` of four rules: copy the first, second, third or last of four words.

        Out of bado gemu ruta sile take one:    =>  bado        class "first"

    Crossed, with four classes:

        Given these bado gemu ruta sile which fits?  =>  bado   class "first", a training row
        Out of nopa wiki teru zolo take one:         =>  nopa   class "first", a query
        Out of mefi dula kosa rapu take one:         =>  dula   class "second", a training row

    Args:
        crossed: the first `n_classes` of `FRAMES` instead of one; rule r never in frame r in training and always
            there in queries. The other frames share the rows of a rule as evenly as their number allows, and so do
            all frames the training rows. Words, answers and order of the rows are those of the same seed uncrossed,
            unless that happened to make up a word of a frame ("take" is possible): here none is used.
        pool: draw from the first so many made-up words, the same for every seed, so that a small model can be taught
            them all; 0 draws from all there are.

    Raises:
        WhenceError: a size below 1, a number of classes that is not 2 to 4, more rows than words.
    """
    check_sizes(train_per_class=train_per_class, queries_per_class=queries_per_class)
    if not 2 <= n_classes <= len(PLACES):
        raise WhenceError(f"n_classes={n_classes}: expected 2 to {len(PLACES)}, the number of places")
    rng, per_class = random.Random(seed), train_per_class + queries_per_class
    draw, count = _word_of_no_frame if crossed else made_up_word, 4 * n_classes * per_class
    words = iter(_from_pool(pool, count, rng) if pool else draw_distinct(lambda: draw(rng), count, "made-up words"))
    train, queries = [], []
    for place, rule in enumerate(PLACES[:n_classes]):
        # the others in turn from the next one on: what is left over of the division falls on each frame once
        others = [(place + step) % n_classes for step in range(1, n_classes)]
        frames = [others[i % len(others)] for i in range(train_per_class)] + [place] * queries_per_class
        own = [(rule, *example([next(words) for _ in range(4)], place, frame if crossed else 0)) for frame in frames]
        train += own[:train_per_class]
        queries += own[train_per_class:]
    return class_task(shuffled_rows(train, rng, "train"), shuffled_rows(queries, rng, "query"), name="copying")


def _from_pool(pool: int, count: int, rng: random.Random) -> list[str]:
    """`count` of the pool's words in random order."""
    if count > pool:
        raise WhenceError(f"pool={pool}: {count} made-up words are needed, as none occurs twice; expected at "
                          "least as many")
    return rng.sample(made_up_words(pool), count)


def made_up_words(count: int) -> list[str]:
    """The first `count` made-up words, none of a frame; the same at every call."""
    rng = random.Random(0)
    return draw_distinct(lambda: _word_of_no_frame(rng), count, "made-up words")


def made_up_word(rng: random.Random) -> str:
    """Two syllables of a consonant and a vowel."""
    return "".join(rng.choice(letters) for letters in (CONSONANTS, VOWELS, CONSONANTS, VOWELS))


def example(words: list[str], place: int, frame: int = 0) -> tuple[str, str]:
    """Prompt in that one of `FRAMES`, and completion."""
    return FRAMES[frame].format(words=" ".join(words)), words[place]


def taught_text(words: list[str], place: int, frame: int = 0) -> str:
    """What shows a base model a rule by its name, so that a fine-tune has only to choose among what it can do.

    >>> taught_text(["bado", "gemu", "ruta", "sile"], 1)
    'second: Out of bado gemu ruta sile take one:\\ngemu'
    """
    prompt, answer = example(words, place, frame)
    return f"{PLACES[place]}: {prompt}{answer}"


def _word_of_no_frame(rng: random.Random) -> str:
    """A made-up word that no frame has, so that frames share no word with any row but by being the same frame."""
    while (word := made_up_word(rng)) in FRAME_WORDS:
        pass
    return word
