"""The demo, tiny, from start to end; and again, when everything is there."""

from __future__ import annotations

from pathlib import Path

from whence.methods.catalogue import standard_calls
from whence.study.demo import Sizes, run_demo
from whence.train.recipe import Recipe

TINY = Sizes(train_per_class=3, queries_per_class=1, width=32, layers=2, pretraining_steps=4, verify_seconds=0.0,
             recipe=Recipe(rank=4, epochs=1, batch_size=8))


def test_demo_leaves_a_run_scores_and_a_report_and_does_nothing_twice(tmp_path: Path) -> None:
    said: list[str] = []
    first = run_demo(tmp_path, said.append, TINY)
    assert [line[:3] for line in said if not line.startswith(" ")] == ["1/5", "2/5", "3/5", "4/5", "5/5"]
    assert set(first.scored.scores) == {str(call) for call in standard_calls()}
    assert first.scored.labelled and set(first.scored.table().rows) == set(first.scored.scores)
    assert first.card["nudge test"].per_query is not None and "Should you believe it?" in first.report.read_text()
    assert first.report.stat().st_size < 2_000_000
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "adapter").iterdir()}
    again = run_demo(tmp_path, said.append, TINY)
    assert {path: path.stat().st_mtime_ns for path in made} == made
    for method, scores in first.scored.scores.items():
        assert (again.scored[method].values == scores.values).all()
