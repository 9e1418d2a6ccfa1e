"""Text at hand: what is in it, and that it is the same every time."""

from __future__ import annotations

from pathlib import Path

import pytest

from whence.models import corpus


def test_documents_are_the_reference_once_each() -> None:
    documents = corpus.default_documents()
    assert len(set(documents)) == len(documents) > 50
    assert any("The \"assert\" statement" in document for document in documents)
    text = corpus.default_text()
    assert len(text) > 300_000
    assert all(document in text for document in documents)


def test_docstrings_follow_paths_and_source_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "b.py").write_text('"""Module b."""\nclass C:\n    """Class."""\n'
                                   '    def m(self):\n        "Method."\n'
                                   'def f():\n    r"""Function \\d."""\nbad = "\\d"\n')
    (tmp_path / "a.py").write_text("async def g():\n    '''Coroutine.'''\n")
    (tmp_path / "none.py").write_text("x = 1\n")
    (tmp_path / "broken.py").write_text('"""Never seen."""\ndef (:\n')
    for folder in ("test", "site-packages"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "c.py").write_text('"""Left out."""\n')
    monkeypatch.setattr(corpus.sysconfig, "get_path", lambda name: str(tmp_path))
    assert corpus.stdlib_docstrings() == ["Coroutine.", "Module b.\n\nClass.\n\nMethod.\n\nFunction \\d."]


def test_docstrings_of_this_python(monkeypatch: pytest.MonkeyPatch) -> None:
    stdlib = Path(corpus.sysconfig.get_path("stdlib"))
    monkeypatch.setattr(corpus.sysconfig, "get_path", lambda name: str(stdlib / "json"))
    documents = corpus.stdlib_docstrings()
    assert any(document.startswith("JSON (JavaScript Object Notation)") for document in documents)
