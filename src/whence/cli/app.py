"""The `whence` command: collects the verbs, and prints a user's mistake without a traceback."""

from __future__ import annotations

import sys

import typer

from whence.base.errors import WhenceError
from whence.cli.blocks import blocks
from whence.cli.demo import demo
from whence.cli.env import env
from whence.cli.evaluate import evaluate
from whence.cli.plan import plan
from whence.cli.probe import probe
from whence.cli.score import score
from whence.cli.search import search
from whence.cli.study import study
from whence.cli.trace import trace
from whence.cli.train import train
from whence.cli.verify import verify

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False,
                  help="Which training data made a language model do that, and should you believe the answer?")
for verb in (demo, train, plan, trace, score, verify, search, probe, evaluate, study, blocks, env):
    app.command()(verb)


def main() -> None:
    """Run the command line; exit codes: 0 done, 2 the user's mistake, 1 a bug (with its traceback)."""
    try:
        app()
    except WhenceError as error:
        print(f"whence: {error}", file=sys.stderr)
        sys.exit(2)
