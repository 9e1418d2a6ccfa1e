"""The command line: one verb a file, each a thin wrapper of a Python function."""

from whence.cli.app import main

__all__ = ["main"]
