"""`whence env`: what a bug report needs, as text and as JSON."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version

import pytest
import torch

from tests.cli.typed import Shell
from whence.cli.env import environment


def test_json_holds_versions_machine_devices_and_caches(shell: Shell) -> None:
    typed = shell("env", "--json")
    value = json.loads(typed.out)
    assert typed.code == 0 and set(value) == {"versions", "machine", "devices", "caches"}
    assert value["versions"]["python"] == platform.python_version()
    assert value["versions"]["torch"] == version("torch") and value["versions"]["whence"] == version("whence")
    assert value["machine"]["torch_threads"] == torch.get_num_threads()
    assert value["machine"]["memory_gib"] >= value["machine"]["free_gib"] > 0
    assert value["devices"]["chosen"] in ("cpu", "cuda", "mps")
    assert value["caches"]["progress_bars"] is False  # the tests switch them off


def test_text_holds_the_same(shell: Shell) -> None:
    text = shell("env").out
    for heading, facts in environment().items():
        assert heading in text.splitlines()
        assert all(any(line.split()[:1] == [name] for line in text.splitlines()) for name in facts)
    assert f"torch            {version('torch')}" in text


def test_a_package_that_is_not_there_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("whence.cli.env.PACKAGES", ("torch", "no-such-package"))
    assert environment()["versions"]["no-such-package"] == "not installed"
