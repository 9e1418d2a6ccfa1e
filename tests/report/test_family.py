from __future__ import annotations

import doctest

import pytest

from whence.report import family
from whence.report.family import Family, families, split_damping


def test_examples() -> None:
    tried = doctest.testmod(family)
    assert tried.attempted >= 2
    assert tried.failed == 0


def test_methods_that_differ_in_damping_alone_are_one_family() -> None:
    labels = ["bm25", "fisher(damping=10.0)", "fisher(damping=0.01, scope=model)", "fisher(damping=0.1)",
              "repsim(token=mean)", "fisher(damping=1.0, scope=model)"]
    assert families(labels, 0.1) == (
        Family("bm25", ("bm25",), (), "bm25"),
        Family("fisher", ("fisher(damping=0.1)", "fisher(damping=10.0)"), (0.1, 10.0), "fisher(damping=0.1)"),
        Family("fisher(scope=model)", ("fisher(damping=0.01, scope=model)", "fisher(damping=1.0, scope=model)"),
               (0.01, 1.0), "fisher(damping=0.01, scope=model)"),
        Family("repsim(token=mean)", ("repsim(token=mean)",), (), "repsim(token=mean)"))


def test_a_label_without_damping_stands_at_the_default() -> None:
    (only,) = families(["lissa(damping=1)", "lissa"], 0.1)
    assert only == Family("lissa", ("lissa", "lissa(damping=1)"), (0.1, 1.0), "lissa")


@pytest.mark.parametrize(("label", "expected"), [
    ("m(scope=model, damping=2)", ("m(scope=model)", 2.0)),
    ("m(damping=1e-3,scope=model)", ("m(scope=model)", 0.001)),
    ("m(damping=auto)", ("m(damping=auto)", None)),
    ("m(damping=0)", ("m(damping=0)", None)),
    ("m(undamping=2)", ("m(undamping=2)", None)),
])
def test_dampings_are_told_from_other_options(label: str, expected: tuple[str, float | None]) -> None:
    assert split_damping(label) == expected
