"""Text that is at hand on every machine with Python: its reference documentation and its docstrings.

Enough to train a small tokenizer and to give a small model some English before it is fine-tuned, with
nothing downloaded. Which text exactly depends on the Python version; on one machine it is always the same.
"""

from __future__ import annotations

import ast
import sysconfig
import warnings
from pathlib import Path
from pydoc_data.topics import topics

SKIPPED_FOLDERS = frozenset({"test", "tests", "idlelib", "idle_test", "site-packages", "dist-packages",
                             "lib2to3", "__pycache__", "turtledemo"})


def default_documents() -> list[str]:
    """The topics of `pydoc` (the language reference, 450 thousand characters), one document a topic.

    Sorted by topic; a text that stands under several topics comes once.
    """
    return list(dict.fromkeys(topics[name].strip() for name in sorted(topics)))


def default_text() -> str:
    """`default_documents` as one string, a blank line between documents."""
    return "\n\n".join(default_documents())


def stdlib_docstrings() -> list[str]:
    """The docstrings of the standard library (1.6 million characters), one document a module.

    Source files are parsed, never imported, in the order of their paths; a module's docstring comes first,
    those of its classes and functions follow in source order. Tests, IDLE and installed packages are left
    out, and so is a file that does not parse (some hold broken code on purpose).
    """
    root = Path(sysconfig.get_path("stdlib"))
    paths = [path for path in sorted(root.rglob("*.py"))
             if not SKIPPED_FOLDERS.intersection(path.relative_to(root).parts)]
    documents = map(_docstrings, paths)
    return [document for document in documents if document]


def _docstrings(path: Path) -> str:
    """All docstrings of one source file, a blank line between them; empty if it has none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about escapes in somebody else's source
            tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):
        return ""
    places = [node for node in ast.walk(tree)
              if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)]
    places.sort(key=lambda node: getattr(node, "lineno", 0))
    return "\n\n".join(text for node in places if (text := ast.get_docstring(node)))
