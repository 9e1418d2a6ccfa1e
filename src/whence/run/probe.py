"""Score made-up texts against queries, as if they had been trained on: probes of what an influence responds to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from whence.base.errors import WhenceError
from whence.curvature.fit import Situation
from whence.curvature.solver import Solver
from whence.data.examples import Examples
from whence.data.read import read_rows
from whence.measure.measurement import Measurement
from whence.run.solved import score_examples, solve_at_once, unit_of
from whence.views.probe_table import ProbeTable
from whence.views.probes import Probe, ProbeSuite, variants, word_order_suite

SUITES = {"word-order": word_order_suite}
LISTS = ("paraphrases", "translations", "irrelevant")


@dataclass(frozen=True)
class Probed:
    """Scores of every probe for every query.

    Attributes:
        suite: queries and probes.
        scores: [Q, R], the predicted change of the query's measurement when the text is trained on with weight 1/N.
        table: means by partition and the order ratio, with intervals.
        method, facts: as those of `Scores`.
    """

    suite: ProbeSuite
    scores: Float64[np.ndarray, "Q R"]
    table: ProbeTable
    method: str
    facts: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain values: the table, and every probe with the score for its own query."""
        place = {query.name: q for q, query in enumerate(self.suite.queries)}
        return {"method": self.method, "facts": dict(self.facts), "table": self.table.to_json(),
                "probes": [vars(probe) | {"score": float(self.scores[place[probe.query], r])}
                           for r, probe in enumerate(self.suite.probes)]}


def read_suite(source: object) -> ProbeSuite:
    """A suite by name (`word-order`), or from rows of `prompt` and `completion` in a file or list.

    Of every row the variants of `views.probes.variants` are made. Optional columns: `name` of the query; `relation`, a
    phrase of the prompt; `paraphrases`, `translations`, `irrelevant`, lists of texts; `texts`, an object of lists of
    texts by partition, for partitions of one's own.

    Raises:
        WhenceError: no such suite or file; a row with other columns, or whose cells are of other kinds.
    """
    if isinstance(source, str) and source in SUITES:
        return SUITES[source]()
    rows = read_rows(source)
    known = {"name", "prompt", "completion", "relation", "texts", *LISTS}
    if missing := [name for name in ("prompt", "completion") if name not in rows.columns]:
        raise WhenceError(f"{rows.source}: no column {missing[0]!r}; a query for probes is a prompt and a completion, "
                          f"or a suite by name: {', '.join(SUITES)}")
    if unknown := [name for name in rows.columns if name not in known]:
        raise WhenceError(f"{rows.source}: column {unknown[0]!r} is not one of {', '.join(sorted(known))}")
    suites = []
    for row in range(len(rows)):
        cell = {name: cells[row] for name, cells in rows.columns.items() if cells[row] is not None}
        for name in ("prompt", "completion", "name", "relation"):
            if not isinstance(cell.get(name, ""), str) or (name in ("prompt", "completion") and name not in cell):
                raise WhenceError(f"{rows.where(row, name)}: met {cell.get(name)!r:.60}; expected a string")
        texts = cell.get("texts", {})
        if not isinstance(texts, Mapping):
            raise WhenceError(f"{rows.where(row, 'texts')}: met {texts!r:.60}; expected lists of texts by partition")
        texts = {part: found for part, found in texts.items() if found is not None}  # Parquet fills in what is missing
        for name, found in {**{name: cell.get(name, []) for name in LISTS}, **texts}.items():
            if not isinstance(found, list) or not all(isinstance(text, str) for text in found):
                raise WhenceError(f"{rows.where(row)}, {name!r}: met {found!r:.60}; expected a list of strings")
        lists = {name: cell[name] for name in LISTS if name in cell}
        made = variants(cell["prompt"], cell["completion"], relation=cell.get("relation"),
                        name=cell.get("name", f"row {row}"), **lists)
        own = (Probe(made.queries[0].name, part, text) for part, found in texts.items() for text in found)
        suites.append(ProbeSuite(made.queries, (*made.probes, *own)))
    return ProbeSuite(tuple(query for suite in suites for query in suite.queries),
                      tuple(probe for suite in suites for probe in suite.probes))


def score_probes(suite: ProbeSuite, queries: Examples, texts: Examples, method: str, solver: Solver,
                 situation: Situation, measurement: Measurement, memory: int | None = None) -> Probed:
    """Solve for the queries of a suite, and pass once over its texts.

    Args:
        queries, texts: `suite.query_rows()` and `suite.text_rows()`, encoded.
    """
    solution = solve_at_once(situation, queries, solver, measurement, memory)
    scores = score_examples(situation, solution, texts, "scores of the probes")
    return Probed(suite, scores, ProbeTable.of(suite, scores, unit_of(solution.facts)), method, solution.facts)
