"""The kinds of cells a study is made of; importing this registers them."""

from whence.study.kinds import bank, base, change, fine_tune, inverse, scores  # noqa: F401
