"""A pass killed in its middle (a real SIGKILL) goes on where it was and ends with the bits of one never stopped."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.run.fixtures import QUERIES, write_rows
from tests.run.killed import killed_in_the_middle
from whence.data import batch
from whence.run.run import Run
from whence.sweep.sweep import Layout

LAYOUT = Layout(batch_size=3)  # 24 rows: 8 batches a pass

# Scores with a state written after every batch; in the pass that is named it stops after the third.
DRIVER = """
import sys, time, torch
torch.set_num_threads(1)
import whence.curvature.fit as fit, whence.curvature.products as products, whence.run.self_influence as own
from whence.run.run import Run
from whence.sweep.resume import Keeper
from whence.sweep.sweep import Layout

class Eager(Keeper):
    name = ""
    def __init__(self, path):
        super().__init__(path, seconds=0.0)
    def keep(self, batches, *rest):
        super().keep(batches, *rest)
        if batches == 3 and (self.name or self.path.name).startswith(sys.argv[4]):
            print("in the middle", flush=True)
            time.sleep(600)

fit.Keeper = Eager
products.Keeper = type("OfProducts", (Eager,), {"name": "products"})
own.Keeper = type("OfSelf", (Eager,), {"name": "self"})
run = Run.load(sys.argv[1], layout=Layout(batch_size=3))
run.score(sys.argv[2], sys.argv[3])
run.self_influence(sys.argv[3])
"""


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of rows of every batch that is swept."""
    seen: list[int] = []

    def counted(examples: Any, rows: Any, *rest: Any) -> batch.Batch:
        seen.append(len(rows))
        return batch.collate(examples, rows, *rest)

    monkeypatch.setattr("whence.sweep.sweep.collate", counted)
    return seen


# The pass that is killed, and how many batches are left: 5 of its own, 8 of each pass after it, and two of the 6
# queries.
CASES = [("lora", "pass-covariances", "ekfac(rows=-1, draws=1)", 5 + 8 + 8 + 2),
         ("lora", "products", "gradient-dot", 5 + 2),
         ("lora", "pass-covariances", "eshampoo(rows=-1, parts=2, draws=1)", 5 + 8 + 8 + 2),
         ("full", "pass-covariances", "ekfac(rows=-1, draws=1)", 5 + 8 + 8 + 2),
         ("full", "pass-eigenvalues", "ekfac(rows=-1, draws=1)", 5 + 8 + 2),
         ("full", "products", "ekfac(rows=-1, draws=1)", 5 + 2),
         ("full", "self", "kfac(rows=-1, draws=1)", 5)]


@pytest.mark.parametrize(("tune", "name", "method", "left"), CASES)
def test_killed_in_the_middle_of_a_pass(tune: str, name: str, method: str, left: int, lora_folder: Path,
                                        full_folder: Path, tmp_path: Path, batches: list[int]) -> None:
    source = {"lora": lora_folder, "full": full_folder}[tune]
    folder, untouched = (Path(shutil.copytree(source, tmp_path / to)) for to in ("run", "whole"))
    asked = write_rows(tmp_path / "q.jsonl", QUERIES)
    killed_in_the_middle(DRIVER, folder, asked, method, name)
    assert len(list(folder.rglob("pass-*"))) == 1
    run, whole = Run.load(folder, layout=LAYOUT), Run.load(untouched, layout=LAYOUT)
    batches.clear()
    if name == "self":
        found, expected = (one.self_influence(method) for one in (run, whole))
        assert len(batches) == left + 8 + 8  # the other run fits, and passes over all rows
        np.testing.assert_array_equal(found, expected)
    else:
        scored = run.score(asked, method)
        assert len(batches) == left
        np.testing.assert_array_equal(scored[method].values, whole.score(asked, method)[method].values)
        assert scored[method].facts == whole.score(asked, method)[method].facts
    assert not list(folder.rglob("pass-*"))
    for path in untouched.glob("factors/*/curvature/*.safetensors"):
        assert path.read_bytes() == (folder / path.relative_to(untouched)).read_bytes()
