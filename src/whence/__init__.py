"""whence: which training data made a language model do that, and should you believe the answer?

    import whence
    run = whence.load("runs/demo")
    hits = run.trace(prompt="...", response="...")
    hits.top(10)
    hits.to_html("report.html")
"""

from importlib.metadata import version

from whence.base.errors import WhenceError
from whence.data.encode import load_examples
from whence.data.examples import Examples
from whence.run.hits import Hit, Hits
from whence.run.run import Run
from whence.scores.matrix import Scores
from whence.train.fine_tune import fine_tune
from whence.train.recipe import Recipe

__version__ = version("whence")
load = Run.load

__all__ = ["Examples", "Hit", "Hits", "Recipe", "Run", "Scores", "WhenceError", "__version__", "fine_tune", "load",
           "load_examples"]
