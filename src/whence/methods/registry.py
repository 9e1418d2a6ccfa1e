"""The registry of methods: a method is a named function of `Evidence`, made again from (name, options).

Adding one is a short file:

    @method(needs={"grams"})
    def mine(evidence: Evidence, *, damping: float = 0.1) -> Scores: ...

A method that is `v^T (C + lambda I)^-1 g` for some curvature is its solver alone:

    @solver_method
    def mine(*, damping: float = 0.1) -> Solver: ...
"""

from __future__ import annotations

import ast
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from whence.base.errors import WhenceError
from whence.curvature.solver import Solver
from whence.methods.evidence import Evidence
from whence.scores.matrix import Scores

MethodFunction = Callable[..., Scores]
"""`f(evidence, *, option=default, ...)`: scores every training row for every query; positive = proponent."""


@dataclass(frozen=True)
class Method:
    """A registered method: its function, and what it needs collected."""

    name: str
    function: MethodFunction
    needs: frozenset[str]
    solver: Callable[..., Solver] | None = None

    @property
    def options(self) -> dict[str, Any]:
        """Keyword options and their defaults."""
        if self.solver:
            return {p.name: p.default for p in inspect.signature(self.solver).parameters.values()}
        return {p.name: p.default for p in list(inspect.signature(self.function).parameters.values())[1:]}


@dataclass(frozen=True)
class MethodCall:
    """A method with its options: `datainf(damping=0.1)`. `str` of it makes it again through `parse`."""

    method: Method
    options: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        inside = ", ".join(f"{name}={value!r}".replace("'", "") for name, value in self.options.items())
        return f"{self.method.name}({inside})" if inside else self.method.name

    @property
    def solver(self) -> Solver | None:
        """The solver with these options, for a method that is one."""
        return self.method.solver(**self.options) if self.method.solver else None

    def __call__(self, evidence: Evidence) -> Scores:
        scores = self.method.function(evidence, **self.options)
        return Scores(scores.values, str(self), scores.unit, scores.facts)


METHODS: dict[str, Method] = {}


def method(needs: set[str]) -> Callable[[MethodFunction], MethodFunction]:
    """Register a function under its name, underscores as hyphens.

    Args:
        needs: what must be collected: `grams` (gradients), `hidden` (representations); nothing for text-only methods.
            (`products`, what solvers need, comes with `solver_method`.)
    """

    def register(function: MethodFunction) -> MethodFunction:
        name = function.__name__.replace("_", "-")
        METHODS[name] = Method(name, function, frozenset(needs))
        return function

    return register


def solver_method(build: Callable[..., Solver]) -> Callable[..., Solver]:
    """Register a function from options to a solver: its scores are `(1/N) x^T g`, summed over blocks, in nats."""

    def scores(evidence: Evidence, **options: Any) -> Scores:
        found = evidence.solved(build(**options))
        unit = "nats per unit step" if found.facts.get("curvature") == "identity" else "nats"
        return Scores(found.total() / len(evidence.train), "", unit, found.facts)

    name = build.__name__.replace("_", "-")
    METHODS[name] = Method(name, scores, frozenset({"products"}), build)
    return build


def parse(text: str) -> MethodCall:
    """`name` or `name(option=value, ...)` to a call; words need no quotes.

    Raises:
        WhenceError: unknown method or option (with the nearest names), or unreadable text.
    """
    name, bracket, inside = text.strip().partition("(")
    if name not in METHODS:
        raise WhenceError(f"method {name!r} is not known{_near(name, METHODS)}; there are: {', '.join(METHODS)}")
    chosen = METHODS[name]
    if not bracket:
        return MethodCall(chosen)
    if not inside.endswith(")"):
        raise WhenceError(f"method {text!r}: the bracket is not closed; write {name}(option=value)")
    options = {}
    for piece in filter(None, (p.strip() for p in inside[:-1].split(","))):
        key, equals, value = (part.strip() for part in piece.partition("="))
        if not equals or key not in chosen.options:
            raise WhenceError(f"method {text!r}: {piece!r} is not one of its options{_near(key, chosen.options)}; "
                              f"it takes {', '.join(f'{k}={v}' for k, v in chosen.options.items()) or 'none'}")
        if key in options:
            raise WhenceError(f"method {text!r}: {key} is given twice")
        options[key] = _value(text, key, value, chosen.options[key])
    return MethodCall(chosen, options)


def _value(text: str, key: str, written: str, default: Any) -> Any:
    """What was written, in the type of the option's default."""
    value: Any = written.strip("'\"")
    if not isinstance(default, str):
        try:
            value = ast.literal_eval(written)
        except (ValueError, SyntaxError):
            value = None
        if isinstance(default, float) and type(value) is int:
            value = float(value)
    if type(value) is not type(default) or (isinstance(value, float) and not math.isfinite(value)):
        expected = {int: "a whole number", float: "a number"}.get(type(default), "a word")
        raise WhenceError(f"method {text!r}: {key}={written}; expected {expected}, such as {default}")
    return value


def _near(name: str, known: Mapping[str, Any]) -> str:
    near = get_close_matches(name, list(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""
