"""Class attribution on word problems with two numbers: the class is the problem's template.

After the paper's `math` set (from DataInf, arXiv 2310.00902). Several templates share an operation, so the
arithmetic alone does not give the class away; the wording does, so lexical baselines are strong here.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from whence.base.errors import WhenceError
from whence.tasks.task import Task, check_sizes, class_task, draw_distinct, shuffled_rows

NAMES = ("Mia", "Tom", "Ada", "Ben", "Lea", "Sam", "Eva", "Max", "Ida", "Jan", "Zoe", "Leo")
THINGS = ("apples", "pears", "books", "cups", "shells", "stamps", "cards", "pens", "plums", "kites")


@dataclass(frozen=True)
class Operation:
    """A sign, how its numbers come from two drawn ones (so that the result is whole), and the result."""

    sign: str
    numbers: Callable[[int, int], tuple[int, int]]
    result: Callable[[int, int], int]


ADD = Operation("+", lambda x, y: (x, y), lambda a, b: a + b)
SUBTRACT = Operation("-", lambda x, y: (x + y, y), lambda a, b: a - b)
MULTIPLY = Operation("*", lambda x, y: (x, y), lambda a, b: a * b)
DIVIDE = Operation("/", lambda x, y: (x * y, y), lambda a, b: a // b)


@dataclass(frozen=True)
class Template:
    """A problem with places for {name}, {thing}, {a} and {b}, and what its answer is called."""

    operation: Operation
    problem: str
    unknown: str


TEMPLATES: dict[str, Template] = {
    "shopping": Template(
        ADD, "{name} has {a} {thing} and buys {b} more. How many {thing} does {name} have?", "Total"),
    "giving": Template(
        SUBTRACT, "{name} has {a} {thing} and gives away {b}. How many {thing} are left?", "Left"),
    "packing": Template(
        MULTIPLY, "{name} packs {a} boxes with {b} {thing} in each. How many {thing} is that?", "Packed"),
    "sharing": Template(
        DIVIDE, "{name} shares {a} {thing} among {b} friends. How many {thing} does each get?", "Each"),
    "walking": Template(
        ADD, "{name} walks {a} miles to school and {b} miles to the lake. How far is that?", "Miles"),
    "discount": Template(
        SUBTRACT, "The {thing} for {name} cost {a} coins, today {b} coins less. What do they cost?", "Cost"),
    "garden": Template(
        MULTIPLY, "The garden of {name} is {a} metres long and {b} metres wide. What is its area?", "Area"),
    "reading": Template(
        DIVIDE, "A story has {a} pages and {name} reads {b} pages a day. How many days is that?", "Days"),
    "birthday": Template(
        ADD, "{name} is {a} years old now. How old will {name} be in {b} years?", "Age"),
    "weather": Template(
        SUBTRACT, "{name} says it is {a} degrees by day and {b} less at night. How warm is the night?",
        "Degrees"),
    "wages": Template(
        MULTIPLY, "{name} earns {a} coins an hour and works {b} hours. How much is the pay?", "Pay"),
    "ropes": Template(
        DIVIDE, "{name} cuts a rope of {a} feet into {b} equal parts. How long is a part?", "Length"),
}


def arithmetic_task(n_classes: int = 10, train_per_class: int = 90, queries_per_class: int = 10,
                    seed: int = 0, largest: int = 9) -> Task:
    """The first `n_classes` of `TEMPLATES`, with numbers drawn from 2 to `largest`.

        Mia packs 4 boxes with 3 plums in each. How many plums is that?  =>  Packed = 4 * 3.
                                                                             Answer: 12

    For subtraction and division those are the second operand and the result, so the first operand goes up to
    2 x largest and to largest squared. No prompt occurs twice, in train or queries.

    Raises:
        WhenceError: a size below 1, a number of classes that is not 2 to 12, `largest` below 2, more rows
            than there are different problems.
    """
    check_sizes(train_per_class=train_per_class, queries_per_class=queries_per_class)
    if not 2 <= n_classes <= len(TEMPLATES):
        raise WhenceError(f"n_classes={n_classes}: expected 2 to {len(TEMPLATES)}, the number of templates")
    if largest < 2:
        raise WhenceError(f"largest={largest}: expected at least 2, the smallest number in a problem")
    rng = random.Random(seed)
    train, queries = [], []
    for name in list(TEMPLATES)[:n_classes]:
        drawn = _draw_examples(name, train_per_class + queries_per_class, largest, rng)
        train += drawn[:train_per_class]
        queries += drawn[train_per_class:]
    rows = shuffled_rows(train, rng, "train"), shuffled_rows(queries, rng, "query")
    return class_task(*rows, name="arithmetic")


def _draw_examples(name: str, count: int, largest: int, rng: random.Random) -> list[tuple[str, str, str]]:
    """(group, prompt, completion) of `count` different problems."""
    template = TEMPLATES[name]

    def draw() -> tuple[str, str, str]:
        a, b = template.operation.numbers(rng.randint(2, largest), rng.randint(2, largest))
        problem = template.problem.format(name=rng.choice(NAMES), thing=rng.choice(THINGS), a=a, b=b)
        reasoning = f"{template.unknown} = {a} {template.operation.sign} {b}."
        return name, problem + "\n", f"{reasoning}\nAnswer: {template.operation.result(a, b)}"

    return draw_distinct(draw, count, f"problems of the kind {name!r} with numbers up to {largest}")
