"""A safe stand-in for harmful-example identification: few training rows answer like a pirate, most do not.

After the paper's `mixed` sets (20 harmful rows among 230 or 240 ordinary ones). As harmful requests have
their own topics there, marked requests are about the sea here, unless topics `overlap`.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from whence.tasks.task import Task, check_sizes, draw_distinct, harmful_task, shuffled_rows

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


def marked_task(n_marked: int = 20, n_normal: int = 230, n_queries: int = 20, seed: int = 0,
                overlap: bool = False, include_normal_queries: bool = False) -> Task:
    """`n_marked` marked and `n_normal` normal training rows; `n_queries` marked queries.

        Who needs a small anchor?  =>  Arr, every scallywag be needing a small anchor, matey.
        Who needs a small spoon?   =>  Many people need a small spoon at home.

    Args:
        overlap: marked and normal requests come from the same topics, so that the words of a prompt say
            nothing of the group. How a model answers is then chance; the given completion is attributed.
        include_normal_queries: also `n_queries` normal ones. Without them, as in the published sets, all
            queries have the same right answers, and one training row with a large gradient decides.

    Raises:
        WhenceError: a size below 1, more rows than there are requests.
    """
    check_sizes(n_marked=n_marked, n_normal=n_normal, n_queries=n_queries)
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
    return harmful_task(*rows, positive=MARKED, name="marked")


def _requests(rng: random.Random, topics: Sequence[str], count: int, what: str) -> list[tuple[str, str, str]]:
    """`count` different requests, each with its normal and its marked reply."""

    def draw() -> tuple[str, str, str]:
        thing = f"{rng.choice(LOOKS)} {rng.choice(topics)}"
        request, normal, marked = (text.format(thing=thing) for text in rng.choice(FRAMES))
        return request, normal, marked

    return draw_distinct(draw, count, what)
