"""`write_report`: the report as one HTML file that opens anywhere, without a network.

Everything is inline: style, script, plots (SVG), data (JSON). A content security policy allows this one
script, by its hash, and no request at all; text from data reaches the page only through autoescaping or
`textContent`.
"""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from whence.base.files import atomic_file
from whence.report.content import ReportContent
from whence.report.payload import Shown, fit
from whence.report.plots import draw_all
from whence.report.reading import readings
from whence.report.table import fact_sections, metric_rows
from whence.report.wording import show_metric, show_number
from whence.tasks.interval import short

HERE = Path(__file__).parent
SCRIPTS = ("payload.js", "strips.js", "table.js", "explorer.js")  # one <script>; each uses those before it
MAX_BYTES = 1_900_000
SLACK = 1_000  # for the words that say how much is shown, which are known only after fitting


def write_report(content: ReportContent, path: str | Path, max_bytes: int = MAX_BYTES) -> Path:
    """Write the report to `path`, atomically, in at most `max_bytes` bytes; returns the path.

    Where not everything fits, lists get shorter, then queries fewer, and the page says so. Raises
    `WhenceError` when one query with one hit a list does not fit beside the plots, the metrics and the facts.
    """
    path = Path(path)
    page = to_html(content, max_bytes).encode()
    with atomic_file(path) as part:
        part.write_bytes(page)
    return path


def to_html(content: ReportContent, max_bytes: int = MAX_BYTES) -> str:
    """The page as text; the same content gives the same bytes. Size and errors as `write_report`."""
    template = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined,
                           trim_blocks=True, lstrip_blocks=True).get_template("report.jinja")
    script = "\n".join((HERE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    parts = {
        "content": content, "readings": readings(content), "table": content.metrics, "rows": metric_rows(content),
        "plots": draw_all(content), "sections": fact_sections(content.facts),
        "number": show_number, "short": short, "show_metric": show_metric,
        "style": Markup((HERE / "report.css").read_text(encoding="utf-8")), "script": Markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }

    def render(payload: str, shown: Shown) -> str:
        return template.render(parts, payload=Markup(payload), shown=shown)

    around = len(render("", Shown((), 0)).encode("utf-8", "replace"))
    page = render(*fit(content, max_bytes - around - SLACK))
    return page.encode("utf-8", "replace").decode()  # half a surrogate pair, which no file holds, becomes `?`
