"""`Evidence`: everything methods may look at, collected once for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from whence.base.errors import WhenceError
from whence.curvature.gram import Gram, add_up
from whence.curvature.products import Products
from whence.curvature.solver import Solver
from whence.data.examples import Examples
from whence.sweep.hidden import Token

HiddenKey = tuple[str, int, Token]  # "tuned" or "base", layer, token


@dataclass(frozen=True)
class Evidence:
    """What one sweep over training rows and queries saw.

    Attributes:
        train: N training examples.
        queries: Q queries.
        grams: Gram matrices, one a block; empty if no method asked for them.
        products: what each solver's vectors gave with every training gradient.
        hidden: (queries [Q, D], train [N, D]) for each (model, layer, token) asked for.
    """

    train: Examples
    queries: Examples
    grams: tuple[Gram, ...] = ()
    hidden: Mapping[HiddenKey, tuple[np.ndarray, np.ndarray]] = field(default_factory=dict)
    products: Mapping[Solver, Products] = field(default_factory=dict)
    _whole: list[Gram] = field(default_factory=list, repr=False)

    @property
    def whole(self) -> Gram:
        """The blocks' Gram matrices added up: the whole model as one block."""
        if not self._whole:
            self._whole.append(add_up(self.need_grams()))
        return self._whole[0]

    def blocks(self, scope: str) -> tuple[Gram, ...]:
        """What a curvature is inverted on: every block by itself (`block`) or all as one (`model`)."""
        if scope not in ("block", "model"):
            raise WhenceError(f"scope={scope}: expected block or model")
        return self.need_grams() if scope == "block" else (self.whole,)

    def need_grams(self) -> tuple[Gram, ...]:
        """The Gram matrices, or an error that says they were not collected."""
        if not self.grams:
            raise WhenceError("this method needs gradients, and none were collected for it")
        return self.grams

    def solved(self, solver: Solver) -> Products:
        """What a solver's vectors gave, or an error that says they were not collected."""
        if solver not in self.products:
            raise WhenceError(f"{solver} was not collected for this method")
        return self.products[solver]

    def only(self, block: int) -> Evidence:
        """The same evidence as if the model had this one block: what shares by block are made of."""
        products = {solver: Products(found.by_block[block : block + 1], found.facts)
                    for solver, found in self.products.items()}
        grams = (self.grams[block],) if self.grams else ()
        return replace(self, grams=grams, products=products, _whole=[])
