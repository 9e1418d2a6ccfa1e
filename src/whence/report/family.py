"""`Family`: methods that differ in nothing but their damping, so that a page shows one of them at a time."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

_DAMPING = re.compile(r"(?<=[(,])\s*damping=([^,()]+),?")


@dataclass(frozen=True)
class Family:
    """One method at one or several dampings; a method without a damping is a family by itself.

    Attributes:
        name: the label without its damping, such as `fisher(scope=model)`.
        members: the labels, by ascending damping.
        dampings: theirs, in multiples of the mean eigenvalue; empty where there is none.
        default: the member that stands for the family: the one nearest to the default damping on a log scale.
    """

    name: str
    members: tuple[str, ...]
    dampings: tuple[float, ...]
    default: str


def families(labels: Iterable[str], default_damping: float) -> tuple[Family, ...]:
    """Labels by family, in the order in which families first occur.

    A label that names no damping stands at the default one where others of its family name theirs.
    """
    groups: dict[str, dict[str, float | None]] = {}
    for label in labels:
        name, damping = split_damping(label)
        groups.setdefault(name, {})[label] = damping
    return tuple(_family(name, group, default_damping) for name, group in groups.items())


def _family(name: str, group: dict[str, float | None], default_damping: float) -> Family:
    if all(damping is None for damping in group.values()):
        return Family(name, tuple(group), (), next(iter(group)))
    at = {label: default_damping if damping is None else damping for label, damping in group.items()}
    members = tuple(sorted(at, key=lambda label: at[label]))
    default = min(members, key=lambda label: abs(math.log(at[label] / default_damping)))
    return Family(name, members, tuple(at[label] for label in members), default)


def split_damping(label: str) -> tuple[str, float | None]:
    """The label without its damping, and that damping.

    >>> split_damping("fisher(damping=0.1, scope=model)"), split_damping("datainf(damping=10.0)")
    (('fisher(scope=model)', 0.1), ('datainf', 10.0))
    >>> split_damping("repsim(token=mean)")
    ('repsim(token=mean)', None)
    """
    found = _DAMPING.search(label)
    try:
        damping = float(found.group(1)) if found else math.nan
    except ValueError:
        damping = math.nan
    if found is None or not 0 < damping < math.inf:
        return label, None
    rest = label[:found.start()] + label[found.end():].lstrip()
    return re.sub(r",\s*\)", ")", rest).replace("()", ""), damping
