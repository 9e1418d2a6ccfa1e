"""Progress: every item passes in each mode; standard output stays clean; a log gets a line now and then."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator

import pytest

from whence.base import progress
from whence.base.progress import track


class Terminal(io.StringIO):
    """A standard error that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def loud(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WHENCE_PROGRESS", raising=False)


def clock(monkeypatch: pytest.MonkeyPatch, step: float) -> None:
    """Every look at the clock finds it `step` seconds later."""
    times = (step * tick for tick in range(10_000))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times))


def test_silence_by_environment(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WHENCE_PROGRESS", "0")
    clock(monkeypatch, 100)
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert list(track(iter("abc"), "work", 3)) == ["a", "b", "c"]
    assert sys.stderr.getvalue() == ""
    assert capsys.readouterr().out == ""


def test_a_bar_on_a_terminal(loud: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    assert list(track("abc", "work", 3)) == ["a", "b", "c"]
    assert "work" in sys.stderr.getvalue() and "3/3" in sys.stderr.getvalue()
    assert capsys.readouterr().out == ""


def test_a_line_every_ten_seconds_in_a_log(loud: None, monkeypatch: pytest.MonkeyPatch,
                                           capsys: pytest.CaptureFixture[str]) -> None:
    clock(monkeypatch, 4)
    assert list(track(range(7), "work", 7)) == list(range(7))
    out, err = capsys.readouterr()
    assert err.splitlines() == ["work: 3/7, 12 s", "work: 6/7, 24 s", "work: 7/7, 28 s"]
    assert out == ""


def test_short_work_says_nothing_in_a_log(loud: None, monkeypatch: pytest.MonkeyPatch,
                                          capsys: pytest.CaptureFixture[str]) -> None:
    clock(monkeypatch, 1)
    assert list(track(range(7), "work", 7)) == list(range(7))
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("terminal", [True, False])
def test_an_error_in_the_loop_gets_through(loud: None, terminal: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal() if terminal else io.StringIO())

    def broken() -> Iterator[int]:
        yield 1
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(track(broken(), "work", 2))
    assert list(track([], "nothing", 0)) == []
