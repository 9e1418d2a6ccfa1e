"""Hub facts on matrices where they can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import skew

from whence.tasks.hubs import hub_facts


def test_counted_by_hand():
    values = np.array([[9.0, 1.0, 2.0], [9.0, 2.0, 1.0], [0.0, 3.0, 3.0], [9.0, 1.0, 0.0]])
    facts = hub_facts(values, k=1)
    assert (facts.top1_share, facts.top1_row, facts.distinct_top1, facts.tied_top1) == (0.75, 0, 2, 1)
    assert facts.column_rms_ratio == pytest.approx(np.sqrt(3 * 81 / 4) / np.sqrt(15 / 4))
    assert facts.k_skewness == pytest.approx(skew([3, 1, 0]))


def test_sign_does_not_change_the_scale_but_changes_who_comes_first():
    values = np.random.default_rng(0).normal(size=(6, 9)) * np.arange(1, 10)
    plus, minus = hub_facts(values), hub_facts(-values)
    assert plus.column_rms_ratio == pytest.approx(minus.column_rms_ratio)
    assert plus.top1_row != minus.top1_row


def test_a_planted_hub_is_found_and_k_is_cut_to_the_training_rows():
    values = np.random.default_rng(0).normal(size=(50, 200))
    free = hub_facts(values)
    values[:, 17] += 20.0
    facts = hub_facts(values)
    assert (facts.top1_share, facts.top1_row, facts.distinct_top1) == (1.0, 17, 1)
    assert facts.k_skewness > 5 > 2 > free.k_skewness
    assert hub_facts(values[:, :4]).k == 4


def test_what_is_undefined_is_none():
    facts = hub_facts(np.zeros((2, 3)))
    assert facts.column_rms_ratio is None
    assert facts.k_skewness is None
    assert facts.tied_top1 == 2
    assert facts.to_json()["k_skewness"] is None
