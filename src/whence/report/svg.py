"""A matplotlib figure as SVG that stands inline in a page, takes its colours and is the same every time.

A figure is drawn in the stand-in colours of `INK`; here each becomes a CSS variable of that name, so that one
drawing reads well on a light and on a dark ground. Text stays text, in the page's own font.
"""

from __future__ import annotations

import io
import re
import warnings
from contextlib import AbstractContextManager
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

INK = {"ink": "#010101", "muted": "#020202", "line": "#030303", "pos": "#040404", "neg": "#050505",
       "same": "#060606"}

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "text.parse_math": False, "font.size": 11.0, "text.color": INK["ink"],
    "axes.edgecolor": INK["line"], "axes.labelcolor": INK["muted"], "axes.labelsize": 11.0,
    "axes.titlesize": 12.0, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.titlecolor": INK["ink"], "axes.spines.top": False, "axes.spines.right": False,
    "xtick.color": INK["line"], "ytick.color": INK["line"], "xtick.labelcolor": INK["muted"],
    "ytick.labelcolor": INK["ink"], "grid.color": INK["line"],
    "grid.linewidth": 0.8, "legend.frameon": False, "figure.facecolor": "none", "axes.facecolor": "none",
    "savefig.facecolor": "none", "lines.solid_capstyle": "round", "path.simplify": False,
}


def style(name: str) -> AbstractContextManager[None]:
    """Context in which figures are made and rendered; `name` salts the ids: no two drawings share one."""
    return mpl.rc_context({**_STYLE, "svg.hashsalt": f"whence-{name}"})


def inline(figure: Figure, title: str) -> str:
    """The figure as one `<svg>` element whose accessible name is `title` (HTML-safe text)."""
    buffer = io.StringIO()
    with warnings.catch_warnings():  # the browser has the glyphs that matplotlib's own font lacks
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(buffer, format="svg", metadata={"Date": None}, bbox_inches="tight", pad_inches=0.05)
    text = buffer.getvalue()
    text = text[text.index("<svg"):]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text).replace("xlink:href", "href")
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"font-family: [^;\"]*(; )?", "", text)  # the page's own is inherited
    text = re.sub(r"(font: [^;\"']*px) [^;\"]*", r"\1 var(--font)", text)  # before matplotlib 3.11
    text = re.sub(r' transform="rotate\(-?0 [^"]*"', "", text)
    for name, colour in INK.items():
        text = text.replace(colour, f"var(--{name})")
    text = re.sub(r"\n\s*", "\n", text)
    box = re.search(r'viewBox="0 0 ([\d.]+) [\d.]+"', text)
    assert box is not None, "matplotlib writes a viewBox"
    natural = float(box.group(1)) * 96 / 72  # points to CSS pixels
    opening = (f'<svg {box.group()} role="img" aria-label="{title}" '
               f'style="min-width:{0.8 * natural:.0f}px;max-width:{natural:.0f}px">')
    return opening + text[text.index(">") + 1:]
