"""The retrain bank of a run: its base model, rows and recipe, in its folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from whence.base.errors import WhenceError
from whence.data.examples import Examples
from whence.train.recipe import Recipe
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
