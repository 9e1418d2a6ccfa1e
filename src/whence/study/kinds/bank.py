"""What really happens: the fine-tune made again without some of its rows, many times.

Which rows: for each of the first queries the top k by each of some methods (so that what a method says is the cause is
really taken away), and k rows at random. Every query is measured under every member: what is correlated with a method's
scores is what happened to all of them. The measured behaviour is the log-probability of the answer alone, in nats,
whatever the fine-tune's loss counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import spearmanr

from whence.base.files import atomic_file
from whence.study.cell import Cell, Row, kind
from whence.study.cost import Work
from whence.study.encoding import Encoding
from whence.study.kinds.evidence import evidence_of
from whence.study.kinds.fine_tune import FineTuned, load_fine_tune
from whence.study.kinds.fine_tune import work as training_work
from whence.study.scoring import Scoring
from whence.truth.bank import Bank
from whence.truth.lds import predictions
from whence.truth.subsets import all_rows, leave_out, random_subsets

SECOND_SEED = 1_000  # added to the fine-tune's: another order and start, for the noise


def members(options: Mapping[str, Any]) -> int:
    """Retrained models of a bank."""
    return int(len(options["methods"]) * options["asked"] + options["random"] + options["halves"] + 2)


def work(cell: Cell) -> Work:
    """As many fine-tunes as there are members."""
    once = training_work(cell.needs[0])
    return Work(once.passes * members(cell.options), once.layers, once.tokens, once.weights)


@kind("bank", work)
def bank(options: Mapping[str, Any], folder: Path, needs: Sequence[Path]) -> list[Row]:
    """Retrain, and keep what happened in `truth.npz`; rows say how large the changes are, and the noise."""
    seed = options["seed"]
    tuned = load_fine_tune(needs[0], options["task"], seed)
    encoding = Encoding.of(options["encoding"])
    queries = encoding.examples(tuned.task.queries, tuned.tokenizer, answer_only=True)
    lists = removals(options, tuned, encoding, seed)
    count = len(tuned.train)
    control, again = all_rows(count, (None, seed + SECOND_SEED))
    subsets = [*leave_out(count, lists), *(random_subsets(count, options["halves"], seed=seed) if options["halves"]
                                           else [])]
    found = Bank(folder / "bank", tuned.base, tuned.base_hash, tuned.train, tuned.recipe, keep_weights=False)
    outcomes = found.outcomes([control, again, *subsets], queries, workers=1, threads=1, device="cpu")
    happened = outcomes.values[2:] - outcomes.values[0]
    with atomic_file(folder / "truth.npz") as part, part.open("wb") as file:
        np.savez(file, kept=outcomes.kept[2:], happened=happened, lists=np.array(len(lists)))
    noise = outcomes.values[1] - outcomes.values[0]
    rows: list[Row] = []
    for q in range(len(queries)):
        rows += [{"metric": "change", "query": q, "value": float(np.sqrt(np.mean(happened[: len(lists), q] ** 2)))},
                 {"metric": "noise", "query": q, "value": float(abs(noise[q]))}]
    return rows


def removals(options: Mapping[str, Any], tuned: FineTuned, encoding: Encoding, seed: int) -> dict[str, np.ndarray]:
    """Lists of k rows each: what methods put first, and chance."""
    count = len(tuned.train)
    k = max(1, round(options["share"] * count))
    scoring, lists = Scoring(), dict[str, np.ndarray]()
    if options["methods"] and options["asked"]:
        seen = evidence_of(tuned, encoding, [scoring.call(name) for name in options["methods"]])
        asked = np.linspace(0, len(tuned.task.queries) - 1, options["asked"]).round().astype(int)
        for name in options["methods"]:
            values = scoring.scores(name, seen.evidence)
            lists |= {f"{name} {q}": np.argsort(-values[q], kind="stable")[:k] for q in asked}
    rng = np.random.default_rng([seed, k])
    return lists | {f"random {i}": rng.permutation(count)[:k] for i in range(options["random"])}


@dataclass(frozen=True)
class Truth:
    """What a bank found: members [M, N] kept, and the change of each query [M, Q] in nats; the first `lists` are
    leave-k-out, the others random halves."""

    kept: Bool[np.ndarray, "M N"]
    happened: Float[np.ndarray, "M Q"]
    lists: int

    @classmethod
    def read(cls, folder: Path) -> Truth:
        """From a `bank` cell's folder."""
        with np.load(folder / "truth.npz") as arrays:
            return cls(arrays["kept"], arrays["happened"], int(arrays["lists"]))

    def agreement(self, scores: Float[np.ndarray, "Q _"]) -> dict[str, Float[np.ndarray, " Q"]]:
        """Rank correlation over members of what the scores foretell with what happened, of each query: `leave-k-out`,
        and `lds` where there are halves. 0 where the scores say the same of every member."""
        found = {}
        for name, at in (("leave-k-out", slice(0, self.lists)), ("lds", slice(self.lists, None))):
            kept, happened = self.kept[at], self.happened[at]
            if len(kept) >= 3:
                told = -predictions(scores, ~kept)
                found[name] = np.array([_rank_correlation(told[:, q], happened[:, q]) for q in range(told.shape[1])])
        return found


def _rank_correlation(told: np.ndarray, happened: np.ndarray) -> float:
    if np.ptp(told) <= 1e-12 * np.abs(told).max(initial=0) or np.ptp(happened) == 0:
        return 0.0
    return float(spearmanr(told, happened).statistic)
