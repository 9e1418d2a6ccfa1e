"""What fits: the batch size and the number of query blocks, or a refusal that names the nearest thing that would.

Passes over the training rows cost more than smaller batches do, so all queries stay resident while any batch lets
them; only then are they taken in blocks, as few as fit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from whence.base.errors import WhenceError
from whence.plan.memory import activation_bytes
from whence.plan.phases import Choice, Draft, phases, query_blocks
from whence.plan.plan import size
from whence.plan.probe import Probe
from whence.plan.workload import BatchShape, Count, Rows, Workload
from whence.sweep.sweep import Layout


@dataclass(frozen=True)
class Room:
    """The memory there is.

    Attributes:
        limit: bytes that the process may hold.
        start: bytes it holds with the model and the data.
    """

    limit: int
    start: int

    @property
    def free(self) -> int:
        """Bytes left for the phases."""
        return self.limit - self.start


def choose(work: Workload, probe: Probe, room: Room, layout: Layout,
           activations: Callable[[BatchShape], Count] | None = None) -> Choice:
    """The choice with the fewest passes, and among those the largest batch up to that of `layout`.

    Args:
        activations: bytes of a batch; default what the probe says.

    Raises:
        WhenceError: nothing fits; says what is missing, and the nearest things that would fit.
    """
    chosen = _choice(work, probe, room, layout, activations)
    if chosen is None:
        raise _refusal(work, probe, room, layout, activations)
    return chosen


def _choice(work: Workload, probe: Probe, room: Room, layout: Layout,
            activations: Callable[[BatchShape], Count] | None) -> Choice | None:
    layouts = list(_layouts(work, layout))

    def fits(smaller: Layout, resident: int) -> Choice | None:
        choice = _with(work, probe, room, smaller, resident, activations)
        return choice if peak(work, probe, choice)[0] <= room.free and _whole_blocks(work, choice) else None

    asked = work.queries.count
    most = asked
    if fits(layouts[-1], asked) is None:
        if work.solver is None:
            return None
        low, high = 0, asked  # memory grows with the queries
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if fits(layouts[-1], middle) else (low, middle)
        if not low:
            return None
        most = -(-asked // -(-asked // low))
    return next(choice for smaller in layouts if (choice := fits(smaller, most)) is not None)


def _layouts(work: Workload, layout: Layout) -> Iterator[Layout]:
    """That layout, then half its batches, down to single rows."""
    tokens = layout.batch_tokens
    while tokens > work.train.longest:
        yield replace(layout, batch_tokens=tokens)
        tokens //= 2
    yield replace(layout, batch_tokens=min(layout.batch_tokens, work.train.longest))


def _with(work: Workload, probe: Probe, room: Room, layout: Layout, resident: int,
          activations: Callable[[BatchShape], Count] | None) -> Choice:
    def guess(shape: BatchShape) -> Count:
        return activation_bytes(probe, shape, work.device.type)

    of = activations or guess
    held = max(of(shape) for rows in (work.train, work.queries) for shape in rows.shapes(layout)[:1])
    each = (work.train.count + work.queries.count) * work.dtype.itemsize
    least = each * max(block.parameters for block in work.blocks)
    all_blocks = each * work.parameters
    fixed = peak(work, probe, Choice(layout, resident, least, held))[0] - least if work.solver is None else 0
    group = max(least, min(all_blocks, int(room.free - fixed)))
    return Choice(layout, resident, group, held)


def _whole_blocks(work: Workload, choice: Choice) -> bool:
    """Whether the gradients of the largest block fit (a Gram method's groups are of whole blocks)."""
    if work.solver is not None or "grams" not in work.call.method.needs:
        return True
    each = (work.train.count + work.queries.count) * work.dtype.itemsize
    return each * max(block.parameters for block in work.blocks) <= choice.group


def peak(work: Workload, probe: Probe, choice: Choice) -> tuple[Count, Draft]:
    """Bytes of the hungriest phase, beside the process at its start, and the phase."""
    worst = max(phases(work, probe, choice), key=lambda draft: draft.memory)
    return worst.memory, worst


def _refusal(work: Workload, probe: Probe, room: Room, layout: Layout,
             activations: Callable[[BatchShape], Count] | None) -> WhenceError:
    smallest = list(_layouts(work, layout))[-1]
    least = 1 if work.solver is not None else work.queries.count
    need, phase = peak(work, probe, _with(work, probe, room, smallest, least, activations))

    def fits(other: Workload, probe: Probe = probe) -> bool:
        return _choice(other, probe, room, smallest, activations) is not None

    found = list(_nearest(work, probe, fits))
    more = f"{size(room.start + need)} of memory"
    return WhenceError(
        f"{work.call} does not fit: {phase.name} needs {size(room.start + need)}"
        f"{' with one query at a time' if work.solver is not None and work.queries.count > 1 else ''} and there are "
        f"{size(room.limit)} ({size(room.start)} of it taken by the model and the data); the nearest that would: "
        + "; ".join([*found, more]))


def _nearest(work: Workload, probe: Probe, fits: Callable[..., bool]) -> Iterator[str]:
    """Changes that would fit, one of each kind at most, the least of its kind."""
    options = {**work.call.method.options, **work.call.options}

    def call(**more: int) -> Workload:
        return replace(work, call=replace(work.call, options={**work.call.options, **more}))

    if options.get("parts") == 1:
        for parts in (2, 4, 8, 16):
            if fits(other := call(parts=parts)):
                yield f"{other.call} (factors in {parts} diagonal blocks)"
                break
    if options.get("rank") == 0:
        for rank in (64, 32, 16):
            if fits(other := call(rank=rank)):
                yield f"{other.call} (low-rank vectors)"
                break
    kept = _fewer_blocks(work, probe, fits)
    if kept:
        yield kept
    if rows := _most(work.train.count, lambda count: fits(replace(work, train=_fewer(work.train, count)))):
        yield f"at most {rows:,} training rows at a time"
    if asked := _most(work.queries.count, lambda count: fits(replace(work, queries=_fewer(work.queries, count)))):
        yield f"at most {asked:,} queries at a time"


def _most(count: int, fits: Callable[[int], bool]) -> int:
    """The most of something that fits, within a percent; 0 if not even one does."""
    low, high = 0, count
    while high - low > max(1, high // 100):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _fewer(rows: Rows, count: int) -> Rows:
    """The same rows, standing for fewer."""
    return Rows(rows.examples.select(np.arange(min(count, len(rows.examples)))), count)


def _fewer_blocks(work: Workload, probe: Probe, fits: Callable[..., bool]) -> str | None:
    """The largest blocks left out, as few as do it."""
    order = sorted(range(len(work.blocks)), key=lambda b: -work.blocks[b].parameters)
    for left_out in range(1, len(order)):
        kept = sorted(order[left_out:])
        place = {b: i for i, b in enumerate(kept)}
        first: dict[int, int] = {}
        source = tuple(first.setdefault(probe.source[b], place[b]) for b in kept)
        if fits(replace(work, blocks=[work.blocks[b] for b in kept]), replace(probe, source=source)):
            dropped = work.blocks[order[left_out - 1]]
            return (f"{len(kept)} of the {len(order)} blocks, those of fewer than {dropped.parameters:,} parameters"
                    if work.blocks[order[left_out]].parameters < dropped.parameters else
                    f"{len(kept)} of the {len(order)} blocks (blocks=[...])")
    return None


__all__ = ["Room", "choose", "peak", "query_blocks"]
