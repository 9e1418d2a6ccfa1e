"""How a run was trained: its retrain bank (base model, rows and recipe), and its stiffness."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whence.base.errors import WhenceError
from whence.data.examples import Examples
from whence.train.log import LOG_NAME, read_log
from whence.train.recipe import Recipe
from whence.train.stiffness import stiffness
from whence.truth.bank import Bank

FOLDER = "truth"


def bank_of(folder: Path | None, record: Mapping[str, Any], base: str | Path | None, train: Examples) -> Bank:
    """The bank of the run in `folder`; see `Run.bank`.

    Raises:
        WhenceError: a run that is in memory, or was not trained by whence.
    """
    if folder is None or "config" not in record or base is None:
        raise WhenceError("a retrain bank needs a run that whence trained, in its folder (Run.load): how the model was "
                          "trained, and from what, is not known of this one")
    return Bank(folder / FOLDER, base, record["hashes"]["base"], train,
                Recipe.from_json(record["config"]["recipe"]))


def stiffness_of(folder: Path | None, record: Mapping[str, Any], train: Examples) -> float:
    """`whence.train.stiffness` of the run in `folder`; NaN of one that whence did not train."""
    if folder is None or "config" not in record or not (folder / LOG_NAME).exists():
        return float("nan")
    tokens = float(train.response_lengths.mean()) if record["config"]["recipe"]["reduction"] == "token" else 1.0
    return stiffness(read_log(folder), record["counts"]["trained_weights"], tokens)
