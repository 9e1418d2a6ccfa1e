"""From a run, some queries and a method to a trust card: which dials are measured at which level, and with what.

    free    rows, batch invariance, convergence, outliers, curvature at work, hubs, self-retrieval, likeness to BM25
            and RepSim
    cheap   solver and curvature error against exact products, scores at the checkpoint before, the nudge test,
            behaviour under nudges
    paid    retraining on random halves of the rows, behaviour under retraining

Cards are kept under the run's `trust/`, one for every set of queries, method and level.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from whence.base.errors import WhenceError
from whence.base.files import write_json
from whence.base.hashing import hash_json
from whence.curvature.collect import free_memory
from whence.curvature.damping import Damping
from whence.curvature.fit import Situation
from whence.curvature.kronecker import Curvature
from whence.curvature.solver import Identity, Kronecker
from whence.data.examples import Examples
from whence.measure.measurement import Measurement
from whence.methods.registry import MethodCall
from whence.run.scored import Scored
from whence.run.stored import slug
from whence.scores.matrix import Scores
from whence.train.checkpoint import checkpoint_folders, checkpoint_step, load_checkpoint
from whence.train.log import LOG_NAME, read_log
from whence.trust.card import Card
from whence.trust.dial import LEVELS, Dial, Level
from whence.trust.free import (
    batch_invariance,
    convergence,
    hubs,
    idle_curvature,
    loss_slope,
    outliers,
    overlap,
    own_places,
    rows_used,
    self_retrieval,
    settled,
)
from whence.trust.measure import batch_deviation, look_at_gradients
from whence.trust.nudge import behaviour_dial, nudge, nudge_dial, plan_nudges, plan_pushes, too_large
from whence.trust.retrain import FEWEST, retrained_behaviour, retraining_dial
from whence.trust.solve import curvature_dial, judge, no_vectors, solver_dial
from whence.truth.bank import Bank, default_workers
from whence.truth.coordinates import Whitened
from whence.truth.proximal import Proximal, kept, tuned_weights
from whence.truth.subsets import random_subsets

TRIVIAL = ("gradient-dot", "bm25", "repsim")
FOLDER = "trust"
SELF, LOOKED_AT, HELD, MEMBERS = 16, 4, 64, 32
STEPS = 10


@dataclass(frozen=True)
class Verification:
    """What a card is made from.

    Attributes:
        situation: model, training rows, blocks.
        scored: the trivial methods, for the queries.
        scores: what is verified, [Q, N].
        call: the method that made them; None where they come from elsewhere.
        measurement: of the queries.
        score: scores of other queries by the method: how it does on training rows.
        stiffness: of the fine-tune (`whence.train.stiffness`), which nudges are made under; NaN where it is not known.
        bank: the retrain bank, made when it is asked for.
        folder: of the run; None keeps nothing.
    """

    situation: Situation
    scored: Scored
    scores: Scores
    call: MethodCall | None
    measurement: Measurement
    score: Callable[[Examples], np.ndarray]
    stiffness: float
    bank: Callable[[], Bank]
    folder: Path | None

    def card(self, level: Level, seconds: float | None = None, seed: int = 0) -> Card:
        """Measure every dial up to `level`.

        Args:
            seconds: for the dials above `free`, about: fewer nudges and members are made where time is short, never
                fewer than 8 of each, and 2 strong ones.

        Raises:
            WhenceError: an unknown level; `paid` of a run that whence did not train.
        """
        if level not in LEVELS:
            raise WhenceError(f"level {level!r}: expected {', '.join(LEVELS[:-1])} or {LEVELS[-1]}")
        bank, start, times = self.bank() if level == "paid" else None, time.monotonic(), dict[str, float]()

        def left() -> float:
            return float("inf") if seconds is None else seconds - (time.monotonic() - start)

        dials = self._free(seed)
        times["free"], start = time.monotonic() - start, time.monotonic()
        if level != "free":
            dials += self._cheap(seed, left() / (2 if bank else 1))
            times["cheap"] = time.monotonic() - start
        if bank:
            dials += self._paid(bank, left())
            times["paid"] = time.monotonic() - start - times["cheap"]
        name = self.scores.method
        card = Card(name, level, self.scored.queries.ids, tuple(dials),
                    {"n": len(self.situation.train), "seed": seed, "seconds": times, "limit_seconds": seconds,
                     "scores": dict(self.scores.facts)})
        if self.folder:
            key = hash_json([self.scored.queries.content_hash, name, self.measurement.name])
            write_json(self.folder / FOLDER / f"{slug(name)}-{key}-{level}.json", card.to_json())
        return card

    @property
    def _values(self) -> np.ndarray:
        return self.scores.values

    @property
    def _of_gradients(self) -> bool:
        """Whether they are influence scores; those from elsewhere are taken to be."""
        return self.call is None or bool(self.call.solver) or "grams" in self.call.method.needs

    def _free(self, seed: int) -> list[Dial]:
        train = self.situation.train
        dials = [rows_used(train, self.scored.queries), batch_invariance(*batch_deviation(self.situation))]
        if self._of_gradients:
            log = read_log(self.folder) if self.folder and (self.folder / LOG_NAME).exists() else []
            seen = look_at_gradients(self.situation)
            dials.append(convergence(seen.common, loss_slope(log), len(train)))
            dials.append(outliers(seen.largest, train.ids[seen.row], len(train)))
        name = self.call.method.name if self.call else ""
        if self._of_gradients and name != "gradient-dot":
            dials.append(idle_curvature(self._values, self.scored["gradient-dot"].values))
        dials.append(hubs(self._values, train.ids))
        if self.call:
            rows = np.sort(np.random.default_rng(seed).permutation(len(train))[:SELF])
            dials.append(self_retrieval(own_places(self.score(train.select(rows)), rows)))
        return dials + [overlap(self._values, self.scored[other].values, shown) for other, shown in
                        (("bm25", "BM25"), ("repsim", "RepSim")) if other != name]

    def _cheap(self, seed: int, seconds: float) -> list[Dial]:
        situation, queries, rng = self.situation, self.scored.queries, np.random.default_rng(seed)
        start, dials = time.monotonic(), list[Dial]()
        solver = self.call.solver if self.call else None
        if solver and not isinstance(solver, Identity):
            some = queries.select(np.sort(rng.permutation(len(queries))[:LOOKED_AT]))
            found = judge(situation, some, solver, self.measurement, seed=seed)
            dials += [solver_dial(found, len(queries)), curvature_dial(found)]
        else:
            dials.append(no_vectors(self.scores.method))
        dials += self._settled()
        problem = self._problem(rng.permutation(len(situation.train))[:HELD])
        if problem.bytes_needed > (free := free_memory(situation.model)):
            return [*dials, too_large(problem.bytes_needed, free)]
        nudged = nudge(problem, plan_nudges(self._values, seed=seed), queries, self._values, self.measurement,
                       steps=STEPS, seconds=seconds - (time.monotonic() - start))
        pushes = plan_pushes(self._values, nudged.answered, slope=nudged.slope, seed=seed)
        pushed = nudge(problem, pushes, queries, self._values, self.measurement, steps=STEPS,
                       seconds=seconds - (time.monotonic() - start), fewest=2)
        moved, changed = (np.concatenate([getattr(one, name) for one in (nudged, pushed)])
                          for name in ("observed", "changed"))
        return [*dials, nudge_dial(nudged), behaviour_dial(moved, changed, nudged.unit, "nudges")]

    def _problem(self, rows: np.ndarray) -> Proximal:
        """The objective of nudges, as stiff as the fine-tune was, in coordinates whitened by EK-FAC.

        Where it is not known how it was trained, the damping is the usual one, .1 of the mean eigenvalue.
        """
        situation, usual = self.situation, Kronecker(Curvature("ekfac"), Damping(rule="global"))
        fitted, weights = situation.fit(usual.curvature), tuned_weights(situation.model)
        damping = usual.lambdas(fitted)[0] if np.isnan(self.stiffness) else self.stiffness
        return Proximal(situation.model, situation.train, rows, damping, weights=weights,
                        coordinates=Whitened(damping, weights, situation.blocks, fitted.blocks),
                        pad_id=situation.pad_id, layout=situation.layout)

    def _settled(self) -> list[Dial]:
        """Would the checkpoint before the last have said the same? The weights go back to the last."""
        folders = checkpoint_folders(self.folder) if self.folder else []
        if not (self.call and self._of_gradients) or len(folders) < 2:
            return []
        model = self.situation.model
        with kept(model, tuned_weights(model)):
            load_checkpoint(model, folders[-2])
            earlier = self.score(self.scored.queries)
        return [settled(self._values, earlier, *map(checkpoint_step, folders[-2:]))]

    def _paid(self, bank: Bank, seconds: float) -> list[Dial]:
        """Retrain on halves: one round to see what a member takes, then as many as there is time for."""
        subsets, queries = random_subsets(len(bank.train), MEMBERS), self.scored.queries
        first, start = max(FEWEST, default_workers(1, None)), time.monotonic()
        made = bank.outcomes(subsets[:first], queries, self.measurement)
        each = (time.monotonic() - start) / first
        count = MEMBERS if np.isinf(seconds) else int(first + (seconds - (time.monotonic() - start)) / max(each, 1e-3))
        if min(count, MEMBERS) > first:
            made = bank.outcomes(subsets[:min(count, MEMBERS)], queries, self.measurement)
        measured: Any = self.scored.measured
        return [retraining_dial(self._values, made),
                retrained_behaviour(made, measured["values"], measured["wrong_tokens"])]
