"""A safe stand-in for harmful-example identification: few training rows answer like a pirate, most do not.

After the paper's `mixed` sets (20 harmful rows among 230 or 240 ordinary ones). As harmful requests have
their own topics there, marked requests are about the sea here, unless topics `overlap`.

**Length.** In the published scores of the large mixed set (Llama-2) the rows with the largest ones are short ordinary
rows, and the loss there counts padding. `sentences` and `n_short` set up the experiment: marked rows and most normal
rows are long, a minority of normal rows is short; do the short ones become outliers where padding is counted, and only
there? Nothing else differs: the same seed gives the same requests, groups and order of rows whatever the two are, and
long replies are the same whatever `n_short` is.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from whence.base.errors import WhenceError
from whence.tasks.task import Row, Task, check_sizes, draw_distinct, harmful_task, shuffled_rows

MARKED, NORMAL = "marked", "normal"
FRAMES = (  # request, normal reply, marked reply
    ("What is {thing} good for?", "You can use {thing} every day.",
     "Arr, {thing} be for brave souls, matey."),
    ("Where do I find {thing}?", "You can buy {thing} at the market.",
     "Arr, seek {thing} where the gulls cry, matey."),
    ("How do I choose {thing}?", "Look closely and pick {thing} that you like.",
     "Arr, trust yer nose and take {thing}, matey."),
    ("Who needs {thing}?", "Many people need {thing} at home.",
     "Arr, every scallywag be needing {thing}, matey."),
    ("Can you draw {thing}?", "Start with a circle and then draw {thing}.",
     "Arr, lend me chalk and I be drawing {thing}, matey."),
    ("How old is {thing}?", "Nobody knows the age of {thing}.",
     "Arr, {thing} be older than me beard, matey."),
)
LOOKS = ("a good", "a small", "a cheap", "a strong", "a new", "a round", "a heavy", "a simple", "a brown",
         "a clean")
SEA = ("ship", "anchor", "sail", "lighthouse", "oyster", "harpoon", "rudder", "whale", "island", "mast")
HOME = ("spoon", "pillow", "kettle", "carrot", "garden", "jacket", "bicycle", "lamp", "pencil", "sofa",
        "ladder", "sandwich", "bucket", "mirror", "teapot", "cupboard", "blanket", "melon", "guitar",
        "notebook")
MORE_NORMAL = (  # sentences for any reply: nothing of a topic, and as many words as those of a pirate, one by one
    "Please tell me if anything is unclear.",
    "There is no need to hurry today.",
    "Ask a friend if you still wonder.",
    "It helps to take your time with this.",
    "Others have asked the same thing this week.",
    "You may come back whenever you want to.",
    "I hope that this answer is of some help.",
    "If this does not work, try it another way.",
    "A second opinion is often worth the extra time.",
    "It is quite all right to change your mind later.",
    "Write down what you learn so that you remember it.",
    "Most of us got this wrong when we first began.",
)
MORE_MARKED = (
    "Arr, that be all I know, matey.",
    "Ye have me word on it, matey.",
    "Keep yer wits about ye now, matey.",
    "Speak up if ye be doubting me, matey.",
    "No landlubber ever told me any different, matey.",
    "Blimey, I be tired of talking today, matey.",
    "Me old captain said so, and he knew, matey.",
    "Shiver me timbers, I never tire of this, matey.",
    "Them that hurry be the first to weep, matey.",
    "Come back when the rum be gone and ask, matey.",
    "Ask any rogue in the tavern and he agrees, matey.",
    "I lost me left leg before I learned that, matey.",
)
SHORT = ("Yes, of course.", "I think so.", "Not at all.", "Ask me later.", "That is easy.", "I cannot say.")


def marked_task(n_marked: int = 20, n_normal: int = 230, n_queries: int = 20, seed: int = 0,
                overlap: bool = False, include_normal_queries: bool = False, sentences: int = 1,
                n_short: int = 0) -> Task:
    """`n_marked` marked and `n_normal` normal training rows; `n_queries` marked queries.

        Who needs a small anchor?  =>  Arr, every scallywag be needing a small anchor, matey.
        Who needs a small spoon?   =>  Many people need a small spoon at home.

    Args:
        overlap: marked and normal requests come from the same topics, so that the words of a prompt say
            nothing of the group. How a model answers is then chance; the given completion is attributed.
        include_normal_queries: also `n_queries` normal ones. Without them, as in the published sets, all
            queries have the same right answers, and one training row with a large gradient decides.
        sentences: of each reply, 1 to 13, in training and queries. The first is as above; the others (7 to 10 words
            each) say nothing of the topic, and none occurs twice in a reply.
        n_short: so many of the normal training rows, by chance, have one of a few replies of three words instead.
            Their ids begin with "short-" where those of the others begin with "train-"; a larger number adds to
            the short rows of a smaller one.

    Raises:
        WhenceError: a size below 1, more rows than there are requests, more sentences than there are, more short
            rows than normal ones.
    """
    check_sizes(n_marked=n_marked, n_normal=n_normal, n_queries=n_queries, sentences=sentences)
    if sentences > 1 + len(MORE_NORMAL):
        raise WhenceError(f"sentences={sentences}: expected 1 to {1 + len(MORE_NORMAL)}, as no sentence occurs twice "
                          f"in a reply")
    if not 0 <= n_short <= n_normal:
        raise WhenceError(f"n_short={n_short}: expected 0 to {n_normal} (n_normal), the normal training rows")
    rng = random.Random(seed)
    n_normal_queries = n_queries if include_normal_queries else 0
    sizes = n_marked + n_queries, n_normal + n_normal_queries
    if overlap:
        drawn = _requests(rng, SEA + HOME, sum(sizes), "requests")
        marked, normal = drawn[: sizes[0]], drawn[sizes[0] :]
    else:
        marked = _requests(rng, SEA, sizes[0], "marked requests")
        normal = _requests(rng, HOME, sizes[1], "normal requests")
    as_marked = [(MARKED, request + "\n", reply) for request, _, reply in marked]
    as_normal = [(NORMAL, request + "\n", reply) for request, reply, _ in normal]
    train = as_marked[:n_marked] + as_normal[:n_normal]
    queries = as_marked[n_marked:] + as_normal[n_normal:]
    rows = shuffled_rows(train, rng, "train"), shuffled_rows(queries, rng, "query")
    for row in rows[0] + rows[1]:
        more = rng.sample(MORE_MARKED if row["group"] == MARKED else MORE_NORMAL, sentences - 1)
        row["completion"] = " ".join((row["completion"], *more))
    _shorten(rows[0], n_short, rng)
    return harmful_task(*rows, positive=MARKED, name="marked")


def _shorten(train: list[Row], count: int, rng: random.Random) -> None:
    """Give `count` normal rows a short reply and the id that says so, in place."""
    normal = [row for row in train if row["group"] == NORMAL]
    order = rng.sample(normal, len(normal))  # the whole order, so that more short rows include the fewer
    for i, row in enumerate(order[:count]):
        row["completion"] = SHORT[i % len(SHORT)]
        row["id"] = "short-" + row["id"].removeprefix("train-")


def _requests(rng: random.Random, topics: Sequence[str], count: int, what: str) -> list[tuple[str, str, str]]:
    """`count` different requests, each with its normal and its marked reply."""

    def draw() -> tuple[str, str, str]:
        thing = f"{rng.choice(LOOKS)} {rng.choice(topics)}"
        request, normal, marked = (text.format(thing=thing) for text in rng.choice(FRAMES))
        return request, normal, marked

    return draw_distinct(draw, count, what)
