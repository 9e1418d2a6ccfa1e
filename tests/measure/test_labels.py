"""Labels drawn from the model: the right distribution, and the same labels whatever the layout."""

from __future__ import annotations

import numpy as np
import torch
from scipy import stats

from tests import tiny
from whence.measure.labels import SampledLabels, draw


def test_labels_follow_the_softmax() -> None:
    logits = torch.tensor([0.0, 1.0, -2.0, 2.5, -30.0])
    count = 20_000
    uniforms = torch.rand(count, generator=torch.Generator().manual_seed(0))
    labels = draw(logits.expand(count, 5), uniforms)
    p = logits.softmax(dim=0).double().numpy()[:4]
    found = np.bincount(labels.numpy(), minlength=5)
    assert found[4] == 0
    assert stats.chisquare(found[:4], count * p / p.sum()).pvalue > 1e-3


def test_the_ends_of_the_interval_are_labels_too() -> None:
    logits = torch.zeros(2, 3)
    assert draw(logits, torch.tensor([0.0, 1.0 - 2**-24])).tolist() == [0, 2]


def test_numbers_depend_on_the_row_and_the_seed_alone() -> None:
    data = tiny.examples(8)
    one = SampledLabels(3)
    together = one.uniforms(data, [4, 1, 6])
    apart = torch.cat([one.uniforms(data, [row]) for row in (4, 1, 6)])
    assert torch.equal(together, apart)
    assert torch.equal(one.uniforms(data.select([6, 4]), [1]), one.uniforms(data, [4]))
    assert not torch.equal(together, SampledLabels(4).uniforms(data, [4, 1, 6]))
    assert ((together >= 0) & (together < 1)).all()
