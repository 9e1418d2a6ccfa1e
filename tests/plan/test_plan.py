"""Plans of tiny runs: disk against the files of a real run, phases, choices, and refusals with what would fit."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
import torch
from torch import nn

from tests import tiny
from tests.run.fixtures import QUERIES, base_folder, lora_folder
from whence.base.errors import WhenceError
from whence.data.examples import Examples
from whence.methods.catalogue import parse_calls
from whence.models.blocks import select_blocks
from whence.plan.fit import Room, choose, peak
from whence.plan.make import make_plan
from whence.plan.phases import phases
from whence.plan.plan import Plan
from whence.plan.probe import Probe, probe
from whence.plan.workload import Rows, Workload
from whence.run.run import Run
from whence.sweep.sweep import Layout

__all__ = ["base_folder", "lora_folder"]
GIB = 1 << 30


def plan(method: str, model: nn.Module | None = None, **options: object) -> Plan:
    model = model or tiny.llama(dtype=torch.float32)
    data: dict[str, object] = {"budget": 0.05, **options}
    return make_plan(model, tiny.examples(30), tiny.examples(4, seed=1), parse_calls([method])[0],
                     select_blocks(model), **data)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["ekfac", "kfac(parts=2)", "eshampoo(rank=2)", "diagonal", "gradient-dot", "fisher",
                                    "repsim"])
def test_disk_is_that_of_a_real_run(lora_folder: Path, tmp_path: Path, method: str) -> None:
    trained = Run.load(lora_folder)
    run = Run(trained.model, trained.tokenizer, trained.train, folder=tmp_path)
    queries = run.encode(QUERIES)
    run.score(queries, method)
    real = {path.relative_to(tmp_path): path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()}
    (call,) = parse_calls([method])
    found = make_plan(run.model, run.train, queries, call, run.subject.blocks, budget=0.05)
    assert found.disk == pytest.approx(sum(real.values()), rel=0.01, abs=400)  # sizes of JSON are guessed
    if method == "repsim":
        return
    factors = sum(size for path, size in real.items() if {"curvature", "gram", "cross"} & set(path.parts))
    kept = sum(phase.disk for phase in found.phases if phase.name in ("eigendecomposition", "eigenvalues"))
    if call.solver is not None:
        assert kept == factors
    else:
        measured = next(size for path, size in real.items() if path.name == "measured.safetensors")
        assert next(phase.disk for phase in found.phases if phase.name == "Gram products") == factors + measured


def names(found: Plan) -> list[str]:
    return [phase.name for phase in found.phases]


def test_the_phases_are_those_of_the_method() -> None:
    assert names(plan("ekfac")) == ["bases", "eigendecomposition", "eigenvalues", "gradients of the queries", "solve",
                                    "products with the training rows"]
    assert "eigenvalues" not in names(plan("kfac")) and "bases" not in names(plan("diagonal"))
    assert names(plan("gradient-dot")) == ["gradients of the queries", "products with the training rows"]
    assert names(plan("fisher"))[-2:] == ["Gram products", "method"]
    assert names(plan("repsim"))[0] == "representations of the queries"


@pytest.mark.parametrize("method", ["ekfac", "fisher", "eshampoo(rank=2)", "repsim"])
def test_every_number_is_there(method: str) -> None:
    found = plan(method)
    assert all(phase.seconds > 0 or phase.flops == 0 for phase in found.phases)
    assert all(phase.memory >= found.start for phase in found.phases)
    assert found.seconds == sum(phase.seconds for phase in found.phases) and found.peak <= found.limit
    again = json.loads(json.dumps(found.to_json()))
    assert again["method"] == method and len(again["phases"]) == len(found.phases) and again["peak"] == found.peak
    assert found.layout.batch_tokens == found.batch_tokens


@pytest.mark.parametrize("tick", [1e-7, 50.0])
def test_any_machine_has_batches_to_time(tick: float) -> None:
    """However fast it is: the rows at hand can be fewer than those planned for, and one batch could hold them all."""
    ticks = count(0.0, tick)
    found = plan("ekfac", rows=3000, clock=lambda: next(ticks))
    assert all(phase.seconds > 0 for phase in found.phases if phase.flops)


def test_more_rows_cost_their_share() -> None:
    few, many = (plan("gradient-dot", rows=n) for n in (3000, 9000))
    sweep = names(few).index("products with the training rows")
    assert many.phases[sweep].flops == pytest.approx(3 * few.phases[sweep].flops)
    assert many.rows == 9000 and many.phases[sweep].disk > 2.9 * few.phases[sweep].disk


@pytest.fixture
def work() -> tuple[Workload, Probe]:
    model = tiny.llama(dtype=torch.float32)
    blocks, data = select_blocks(model), tiny.examples(30)
    subject = Workload(model, blocks, 0, Rows(data, 30), Rows(data, 1000), parse_calls(["kfac"])[0])
    return subject, probe(model, blocks, data, 0)


def with_call(work: Workload, method: str) -> Workload:
    return replace(work, call=parse_calls([method])[0])


def test_queries_are_taken_in_blocks_only_where_memory_says_so(work: tuple[Workload, Probe]) -> None:
    subject, seen = work
    assert choose(subject, seen, Room(10 * GIB, GIB), Layout()).queries == 1000
    whole = peak(subject, seen, choose(subject, seen, Room(10 * GIB, GIB), Layout()))[0]
    one = subject.parameters * 4
    tight = Room(GIB + int(whole) - 300 * one, GIB)
    chosen = choose(subject, seen, tight, Layout())
    assert 1 < -(-1000 // chosen.queries) <= 3
    assert peak(subject, seen, chosen)[0] <= tight.free


def test_smaller_batches_before_more_passes(work: tuple[Workload, Probe]) -> None:
    subject, seen = work
    roomy = choose(subject, seen, Room(10 * GIB, GIB), Layout(batch_tokens=1 << 16))
    assert roomy.layout.batch_tokens == 1 << 16
    few = Rows(subject.train.examples, 30)
    large = replace(subject, queries=few)
    limit = Room(int(peak(large, seen, choose(large, seen, Room(10 * GIB, 0), Layout(batch_tokens=12)))[0]) + 1, 0)
    chosen = choose(large, seen, limit, Layout())
    assert chosen.queries == 30 and chosen.layout.batch_tokens < 4096


def test_what_cannot_fit_is_refused_with_what_would(work: tuple[Workload, Probe]) -> None:
    subject, seen = work
    least = peak(subject, seen, choose(subject, seen, Room(10 * GIB, 0), Layout()))[0]
    with pytest.raises(WhenceError, match=r"kfac does not fit: .* needs .* with one query at a time") as error:
        choose(subject, seen, Room(int(least / 100), 0), Layout())
    assert "of memory" in str(error.value)


def test_the_suggestions_really_fit(work: tuple[Workload, Probe]) -> None:
    """Taken at their word, fewer rows do; a little more than that does not."""
    subject, seen = work
    many = replace(with_call(subject, "fisher"), train=Rows(subject.train.examples, 20000),
                   queries=Rows(subject.train.examples, 30))
    room = Room(2 * GIB, GIB)
    with pytest.raises(WhenceError) as error:
        choose(many, seen, room, Layout())
    match = re.search(r"at most ([\d,]+) training rows at a time", str(error.value))
    assert match
    most = int(match[1].replace(",", ""))
    choose(replace(many, train=Rows(many.train.examples, most)), seen, room, Layout())
    with pytest.raises(WhenceError):
        choose(replace(many, train=Rows(many.train.examples, int(most * 1.05))), seen, room, Layout())


def test_factors_in_parts_are_suggested_where_they_would_fit() -> None:
    torch.manual_seed(0)
    model = tiny.llama(dtype=torch.float32)
    blocks, data = select_blocks(model), tiny.examples(10)
    wide = [replace(block, inputs=4000, outputs=40, parameters=160000) for block in blocks[:2]]
    seen = replace(probe(model, blocks, data, 0), source=(0, 1))
    work = Workload(model, wide, 0, Rows(data, 10), Rows(data, 3), parse_calls(["kfac(rows=-1)"])[0])
    with pytest.raises(WhenceError, match=r"kfac\(rows=-1, parts=\d+\) \(factors in \d+ diagonal blocks\)"):
        choose(work, seen, Room(int(0.9 * GIB), 0), Layout())


def test_memory_of_the_phases_grows_with_what_they_hold(work: tuple[Workload, Probe]) -> None:
    subject, seen = work
    one, two = (phases(replace(subject, queries=Rows(subject.train.examples, q)), seen,
                       replace(choose(subject, seen, Room(10 * GIB, 0), Layout()), queries=q)) for q in (100, 200))
    held = subject.parameters * 4
    for a, b in zip(one, two, strict=True):
        if a.name in ("bases", "eigendecomposition", "eigenvalues"):
            assert b.memory == a.memory  # the queries come after
        else:
            assert b.memory - a.memory >= 100 * held


@pytest.mark.parametrize(("method", "what"), [("bm25", "nothing to plan"), ("cg", "cannot be planned")])
def test_methods_that_cannot_be_planned_say_so(method: str, what: str) -> None:
    with pytest.raises(WhenceError, match=what):
        plan(method)


def test_nothing_to_plan_for() -> None:
    model = tiny.llama(dtype=torch.float32)
    empty: Examples = tiny.examples(3).select([])
    with pytest.raises(WhenceError, match="no training rows or no queries"):
        make_plan(model, empty, tiny.examples(2), parse_calls(["ekfac"])[0], select_blocks(model))
