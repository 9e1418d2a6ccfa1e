"""The paid dials: do the scores foretell what retraining does?

Shapes: M members, Q queries, N rows.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from whence.trust.dial import Dial, clearly
from whence.trust.nudge import LIMIT, behaviour_dial
from whence.truth.bank import Outcomes
from whence.truth.lds import linear_datamodeling
from whence.truth.resample import affordable, fisher_interval

FEWEST = 8  # members


def retraining_dial(scores: Float[np.ndarray, "Q N"], outcomes: Outcomes) -> Dial:
    """The linear datamodeling score on the members of a bank: mean rank correlation over members."""
    found = linear_datamodeling({"scores": scores}, outcomes.kept, outcomes.values,
                                resamples=affordable(*outcomes.values.shape))
    lds, per_query = found.scores["scores"], found.per_query["scores"]
    ends = [fisher_interval(r, found.members) for r in per_query]
    return Dial("retraining", "paid", "truth", clearly(lds.low, lds.high, LIMIT),
                f"over {found.members} retrained models the scores foretell each query's measurement with rank "
                f"correlation {lds} (linear datamodeling score)", f"an interval above {LIMIT:g}", lds.value, lds.low,
                lds.high, "rank correlation", per_query, tuple(clearly(low, high, LIMIT) for low, high in ends))


def retrained_behaviour(outcomes: Outcomes, values: Float[np.ndarray, " Q"], wrong: Int[np.ndarray, " Q"]) -> Dial:
    """Did the greedy answer change with the measurement? `values` and `wrong` tokens of the run itself."""
    return behaviour_dial(outcomes.values - values, outcomes.wrong_tokens != wrong, outcomes.unit, "retraining", "paid")
