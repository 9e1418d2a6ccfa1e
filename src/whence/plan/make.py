"""`make_plan`: probe, choose what fits, calibrate, and add it up."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import nn

from whence.base.errors import WhenceError
from whence.curvature.collect import free_memory
from whence.curvature.solver import Identity, Kronecker
from whence.data.examples import Examples
from whence.methods.registry import MethodCall
from whence.models.blocks import Block
from whence.plan.calibrate import Calibration
from whence.plan.fit import Room, choose
from whence.plan.phases import Draft, phases, query_blocks
from whence.plan.plan import Phase, Plan
from whence.plan.probe import probe
from whence.plan.resident import resident_bytes
from whence.plan.workload import Count, Rows, Workload
from whence.sweep.sweep import Layout


def make_plan(model: nn.Module, train: Examples, queries: Examples, call: MethodCall, blocks: Sequence[Block], *,
              pad_id: int = 0, rows: int | None = None, asked: int | None = None, memory: int | None = None,
              layout: Layout | None = None, budget: float = 10.0,
              clock: Callable[[], float] = time.perf_counter) -> Plan:
    """What `call` would cost on this model, these rows and queries.

    Args:
        rows, asked: how many training rows and queries the examples stand for; default: as many as they are.
        memory: bytes that the process may hold; default what it holds and what is free.
        layout: the largest batches that are thought of, and the padding side.
        budget: seconds of calibration, about.
        clock: seconds; CPU time on a machine that others use too.

    Raises:
        WhenceError: it does not fit (says what would), a method that looks at texts alone, or no rows.
    """
    begin = clock()
    if not len(train) or not len(queries):
        raise WhenceError("there are no training rows or no queries to plan for; expected at least one of each")
    if not {"grams", "hidden", "products"} & call.method.needs:
        raise WhenceError(f"{call} looks at texts alone and runs no model: there is nothing to plan")
    if call.solver is not None and not isinstance(call.solver, Kronecker | Identity):
        raise WhenceError(f"{call} cannot be planned: it iterates until it has converged, at about 1.4 epochs of its "
                          "rows for each query and iteration; plan ekfac, which it starts from")
    work = Workload(model, blocks, pad_id, Rows(train, rows or len(train)), Rows(queries, asked or len(queries)), call)
    start = resident_bytes(work.device)
    room = Room(memory or start + free_memory(model), start)
    seen = probe(model, blocks, train, pad_id)
    choice = choose(work, seen, room, layout or Layout())
    calibration = Calibration(work, seen, choice.layout, budget, clock, before=start)
    calibration.start()
    drafts = phases(work, seen, choice)
    paces = {draft.name: calibration.seconds(draft, choice.queries) / max(draft.macs, 1) for draft in drafts}
    choice = choose(work, seen, room, choice.layout, calibration.activations)
    found = tuple(_phase(draft, start, draft.macs * paces[draft.name]) for draft in phases(work, seen, choice))
    held = choice.queries * work.parameters * work.dtype.itemsize if work.solver else choice.group
    threads = f"{torch.get_num_threads()} threads" if work.device.type == "cpu" else ""
    return Plan(str(call), found, choice.layout.batch_tokens,
                query_blocks(work, choice.queries) if work.solver else 1, work.queries.count, work.train.count,
                held, room.limit, start, f"{work.device.type} {threads}".strip(), clock() - begin)


def _phase(draft: Draft, start: int, seconds: Count) -> Phase:
    return Phase(draft.name, 2 * draft.macs, start + draft.memory, draft.disk, seconds, draft.passes,
                 draft.rows.count if draft.rows else 0)

