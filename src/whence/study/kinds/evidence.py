"""What methods look at, of a fine-tune under an encoding: gradients of what is counted, representations of the answer.

Gradients see the tokens that count; representations go by the prompt and the answer whatever counts, so they are
collected on the same tokens with the answer's mask.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from whence.curvature.collect import collect_grams, collect_hidden
from whence.curvature.fit import Situation
from whence.curvature.gram import Gram
from whence.curvature.products import collect_products
from whence.curvature.store import MemoryStore
from whence.data.examples import Examples
from whence.methods.catalogue import hidden_keys, needs_of, solvers_of
from whence.methods.evidence import Evidence, HiddenKey
from whence.methods.registry import MethodCall
from whence.models.blocks import Block, select_blocks
from whence.models.load import load_model
from whence.study.encoding import Encoding
from whence.study.kinds.fine_tune import FineTuned
from whence.sweep.sweep import Layout


@dataclass(frozen=True)
class Seen:
    """Evidence, with what it was collected on.

    Attributes:
        evidence: Gram matrices of every block, representations, products of solvers.
        train, queries: the examples under the encoding; what counts in them was differentiated.
        situation: what solvers look at.
    """

    evidence: Evidence
    train: Examples
    queries: Examples
    situation: Situation


def evidence_of(tuned: FineTuned, encoding: Encoding, calls: Sequence[MethodCall], grams: bool = True) -> Seen:
    """Collect what `calls` need, and Gram matrices."""
    train, queries = (encoding.examples(rows, tuned.tokenizer) for rows in (tuned.task.train, tuned.task.queries))
    model, pad = tuned.model, tuned.tokenizer.pad_token_id or 0
    blocks: Sequence[Block] = select_blocks(model, None)
    layout = Layout()
    situation = Situation(model, train, blocks, pad, layout, MemoryStore())
    found: tuple[Gram, ...] = ()
    if grams:
        found = collect_grams(model, train, queries, blocks, pad_id=pad, layout=layout).grams
    solvers = solvers_of([call for call in calls if not (grams and call.method.name == "gradient-dot")])
    products = collect_products(situation, queries, solvers) if solvers else {}
    hidden = representations(tuned, encoding, hidden_keys(calls)) if "hidden" in needs_of(calls) else {}
    return Seen(Evidence(train, queries, found, hidden, products), train, queries, situation)


def representations(tuned: FineTuned, encoding: Encoding,
                    keys: Sequence[HiddenKey]) -> dict[HiddenKey, tuple[np.ndarray, np.ndarray]]:
    """(queries [Q, D], train [N, D]) of each key, of the tuned model and of its base."""
    pad = tuned.tokenizer.pad_token_id or 0
    answers = [encoding.examples(rows, tuned.tokenizer, answer_only=True)
               for rows in (tuned.task.queries, tuned.task.train)]
    hidden: dict[HiddenKey, tuple[np.ndarray, np.ndarray]] = {}
    for which in ("tuned", "base"):
        choices = [(layer, token) for model, layer, token in keys if model == which]
        if choices:
            model = tuned.model if which == "tuned" else load_model(tuned.base, device="cpu").model
            queries, train = (collect_hidden(model, one, choices, pad) for one in answers)
            hidden |= {(which, layer, token): (queries.get(layer, token), train.get(layer, token))
                       for layer, token in choices}
    return hidden
