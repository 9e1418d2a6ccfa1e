"""Collect evidence: only what the chosen methods need, only what is not stored yet, sweeping as few times as fits."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
from torch import nn

from whence.base.errors import WhenceError
from whence.curvature.collect import collect_grams, collect_hidden, free_memory, gradient_dtype, group_blocks
from whence.curvature.gram import Gram
from whence.curvature.products import Products, collect_products
from whence.curvature.solver import Solver
from whence.data.examples import Examples
from whence.methods.catalogue import hidden_keys, needs_of, solvers_of
from whence.methods.evidence import Evidence, HiddenKey
from whence.methods.registry import MethodCall
from whence.run.factors import Factors
from whence.run.subject import Subject
from whence.sweep.hidden import HiddenStates, known_token
from whence.sweep.sweep import Measured, sweep


def collect(subject: Subject, train: Examples, queries: Examples, calls: Sequence[MethodCall],
            factors: Factors) -> tuple[Evidence, dict[str, np.ndarray]]:
    """Evidence for `calls`, and what was measured of the queries (`values`, `wrong_tokens`)."""
    keys = hidden_keys(calls)
    missing = [key for key in keys if factors.hidden(key) is None]
    grams: tuple[Gram, ...] = ()
    if "grams" in needs_of(calls):
        grams = _grams(subject, train, queries, [key for key in missing if key[0] == "tuned"], factors)
    for model in ("tuned", "base"):
        missing = [key for key in keys if key[0] == model and factors.hidden(key) is None]
        if missing:
            with subject.base() if model == "base" else nullcontext(subject.model) as swept:
                _represent(subject, swept, train, queries, missing, factors)
    products = _products(subject, train, queries, solvers_of(calls), factors)
    if factors.measured() is None:
        factors.keep_measured(_arrays(sweep(subject.model, queries, measurement=subject.measurement,
                                            pad_id=subject.pad_id, layout=subject.layout,
                                            what="measuring the queries")))
    hidden = {key: stored for key in keys if (stored := factors.hidden(key))}
    return Evidence(train, queries, grams, hidden, products), factors.measured() or {}


def check_representations(calls: Sequence[MethodCall]) -> None:
    """Refuse a model, layer or token that no representation is of, before anything is swept.

    Raises:
        WhenceError: names the method, what was met and what is expected.
    """
    for call in calls:
        if "hidden" in call.method.needs:
            options = {**call.method.options, **call.options}
            if options["model"] not in ("tuned", "base"):
                raise WhenceError(f"method {str(call)!r}: model={options['model']}: expected tuned or base")
            if not isinstance(options["layer"], int):
                raise WhenceError(f"method {str(call)!r}: layer={options['layer']}: expected a whole number")
            known_token(options["token"])


def _grams(subject: Subject, train: Examples, queries: Examples, hidden: Sequence[HiddenKey],
           factors: Factors) -> tuple[Gram, ...]:
    """Gram matrices of every block: stored, or swept in groups that fit in memory; `hidden` comes along."""
    blocks = subject.blocks
    grams = {i: gram for i, block in enumerate(blocks) if (gram := factors.gram(i, block))}
    known = {block.name: gram for i, block in enumerate(blocks)
             if i not in grams and (gram := factors.train_gram(i, block))}
    fresh = [block for i, block in enumerate(blocks) if i not in grams and block.name not in known]
    again = [block for block in blocks if block.name in known]
    place = {block.name: i for i, block in enumerate(blocks)}
    size = gradient_dtype(subject.model).itemsize
    memory = subject.memory or free_memory(subject.model) // 2
    plan = [(group, False) for group in group_blocks(fresh, len(train) + len(queries), size, memory)]
    plan += [(group, True) for group in group_blocks(again, len(queries), size, memory)]
    for group, reuse in plan:
        choices = [(layer, token) for _, layer, token in hidden]
        of_queries, of_train = HiddenStates(choices), HiddenStates(choices)
        found = collect_grams(subject.model, train, queries, group,
                              known=[known[block.name] for block in group] if reuse else None,
                              measurement=subject.measurement, pad_id=subject.pad_id, layout=subject.layout,
                              hidden_queries=of_queries if hidden else None,
                              hidden_train=of_train if hidden else None)
        _keep_hidden(hidden, of_queries, of_train, factors)
        hidden = []  # in the first group's passes only
        factors.keep_measured(_arrays(found.queries))
        for gram in found.grams:
            factors.keep_gram(place[gram.name], gram)
            grams[place[gram.name]] = gram
    return tuple(grams[i] for i in range(len(blocks)))


def _products(subject: Subject, train: Examples, queries: Examples, solvers: Sequence[Solver],
              factors: Factors) -> dict[Solver, Products]:
    """Products of every solver: stored, or made together."""
    found = {solver: stored for solver in solvers if (stored := factors.products(solver))}
    missing = [solver for solver in solvers if solver not in found]
    if missing:
        made = collect_products(subject.situation(train, factors.curvatures()), queries, missing, subject.measurement,
                                subject.memory, factors.pass_path)
        for solver, products in made.items():
            if products.queries is not None:
                factors.keep_measured(_arrays(products.queries))
            factors.keep_products(solver, products)
        found |= made
    return found


def _represent(subject: Subject, model: nn.Module, train: Examples, queries: Examples, keys: Sequence[HiddenKey],
               factors: Factors) -> None:
    """Hidden states alone, all of one model in one forward pass."""
    choices = [(layer, token) for _, layer, token in keys]
    of_queries, of_train = (
        collect_hidden(model, examples, choices, subject.pad_id, subject.layout,
                       what=f"representations of the {keys[0][0]} model") for examples in (queries, train))
    _keep_hidden(keys, of_queries, of_train, factors)


def _keep_hidden(keys: Sequence[HiddenKey], of_queries: HiddenStates, of_train: HiddenStates, factors: Factors) -> None:
    for key in keys:
        factors.keep_hidden(key, of_queries.get(*key[1:]), of_train.get(*key[1:]))


def _arrays(measured: Measured) -> dict[str, np.ndarray]:
    return {"values": measured.values, "wrong_tokens": measured.wrong_tokens}
