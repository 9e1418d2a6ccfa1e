"""What a bank would cost: widths by simulation, times that scale, disk that is what is stored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.run.fixtures import QUERIES, base_folder, full_folder, lora_folder
from whence.run.run import Run
from whence.truth.cost import duration, half_width, plan_bank
from whence.truth.subsets import random_subsets

__all__ = ["base_folder", "full_folder", "lora_folder"]


def test_widths_are_those_of_simulated_correlations() -> None:
    rng, truth = np.random.default_rng(0), 2 * np.sin(np.pi * 0.5 / 6)  # Pearson's, where Spearman's is .5
    for members in (16, 64):
        x = rng.normal(size=(2000, members))
        y = truth * x + np.sqrt(1 - truth**2) * rng.normal(size=x.shape)
        a, b = (np.argsort(np.argsort(part, axis=1), axis=1) for part in (x, y))
        r = [np.corrcoef(p, q)[0, 1] for p, q in zip(a, b, strict=True)]
        low, high = np.quantile(r, [0.025, 0.975])
        assert half_width(members) == pytest.approx((high - low) / 2, rel=0.15)
    assert half_width(3) == 1.0 and half_width(128) < half_width(32)


def test_a_plan_of_a_run(lora_folder: Path, tmp_path: Path) -> None:
    run = Run.load(lora_folder)
    bank, queries = run.bank(), run.encode(QUERIES)
    plan = plan_bank(bank, queries, [2, 8], workers=2, seconds=0.1)
    small, large = plan.sizes
    assert plan.each > 0 and large.seconds == pytest.approx(4 * small.seconds)
    made = bank.outcomes(random_subsets(len(run.train), 2), queries, workers=1)
    stored = sum(path.stat().st_size for path in (bank.folder / "members").glob("*.safetensors"))
    assert len(made.values) == 2 and stored / 2 < small.disk_bytes < 2 * stored
    assert [size["members"] for size in plan.to_json()["sizes"]] == [2, 8]


def test_times_are_written_shortly() -> None:
    assert [duration(x) for x in (45.0, 600.0, 9000.0)] == ["45 s", "10 min", "2.5 h"]
