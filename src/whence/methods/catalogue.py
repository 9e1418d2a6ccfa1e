"""The methods whence has, and the standard list that a comparison runs."""

from __future__ import annotations

from collections.abc import Sequence

from whence.curvature.damping import DAMPINGS
from whence.curvature.solver import Solver
from whence.methods import (  # noqa: F401  (importing a method file registers it)
    arnoldi,
    bm25,
    cg,
    datainf,
    diagonal,
    ekfac,
    eshampoo,
    fisher,
    gradient_cosine,
    gradient_dot,
    kfac,
    lissa,
    lissa_published,
    neumann,
    random,
    repsim,
    shampoo,
    tfidf,
)
from whence.methods.evidence import HiddenKey
from whence.methods.registry import METHODS, MethodCall, parse

BASELINES = ("random", "bm25", "tfidf", "repsim", "gradient-dot")
DEFAULT = "ekfac"
COSTLY = frozenset({"cg", "neumann", "arnoldi"})  # epochs for every query; run when they are named


def standard_calls(dampings: Sequence[float] = DAMPINGS) -> list[MethodCall]:
    """Baselines first, then every method but the `COSTLY`; those with a damping at each of `dampings`.

    RepSim at its published choice, at the two other tokens, and in the base model (which a run made in memory
    from a full fine-tune must be told of).
    """
    calls = [parse(name) for name in BASELINES]
    calls += [parse("repsim(token=last_response)"), parse("repsim(token=mean)"), parse("repsim(model=base)")]
    calls += [parse("gradient-cosine")]
    calls += [parse(name) for name in ("diagonal", "kfac", "shampoo", "eshampoo")]
    for name in ("ekfac", "datainf", "lissa-published", "lissa", "fisher", "fisher(scope=model)"):
        call = parse(name)
        calls += [MethodCall(call.method, {"damping": damping, **call.options}) for damping in dampings]
    return calls


def parse_calls(texts: Sequence[str]) -> list[MethodCall]:
    """Names to calls; `all` stands for the standard list. Each call once, in the order written."""
    calls: dict[str, MethodCall] = {}
    for text in texts:
        for call in standard_calls() if text == "all" else [parse(text)]:
            calls.setdefault(str(call), call)
    return list(calls.values())


def needs_of(calls: Sequence[MethodCall]) -> set[str]:
    """What must be collected for these calls."""
    return set().union(*(call.method.needs for call in calls)) if calls else set()


def solvers_of(calls: Sequence[MethodCall]) -> list[Solver]:
    """The solvers these calls stand on, each once."""
    return list(dict.fromkeys(solver for call in calls if (solver := call.solver)))


def hidden_keys(calls: Sequence[MethodCall]) -> list[HiddenKey]:
    """The (model, layer, token) representations these calls look at."""
    keys: dict[HiddenKey, None] = {}
    for call in calls:
        if "hidden" in call.method.needs:
            options = {**call.method.options, **call.options}
            keys[options["model"], options["layer"], options["token"]] = None
    return list(keys)


__all__ = ["BASELINES", "COSTLY", "DEFAULT", "METHODS", "hidden_keys", "needs_of", "parse_calls", "solvers_of",
           "standard_calls"]
