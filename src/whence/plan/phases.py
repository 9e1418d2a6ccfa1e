"""The phases of a method, in the order they run: what each computes, holds and leaves behind.

A phase is a pass over rows (a sweep with its sinks) or a piece of linear algebra; its time is calibrated by its name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from whence.plan import disk, flops
from whence.plan.memory import Sizes
from whence.plan.probe import Probe
from whence.plan.workload import BatchShape, Count, Rows, Workload
from whence.sweep.sweep import Layout

SPECTRAL = ("fisher", "lissa", "lissa-published")  # methods that look at the eigenvectors of K

QUERIES, BASES, EIGH, EIGENVALUES = "gradients of the queries", "bases", "eigendecomposition", "eigenvalues"
SOLVE, PRODUCTS, MEASURE = "solve", "products with the training rows", "measuring the queries"
TRAIN, GRAM, METHOD, HIDDEN = "gradients of the training rows", "Gram products", "method", "representations"


@dataclass(frozen=True)
class Draft:
    """A phase before its time is known.

    Attributes:
        name: what it does.
        algebra: multiply-adds of linear algebra; those of sweeps are counted when they are asked for.
        memory: bytes at its peak, beside the process with the model.
        disk: bytes of the files it leaves.
        passes: sweeps it makes.
        rows: what is swept, or None.
        layout: how they are batched.
        work: multiply-adds of one batch, sweep and sinks together.
    """

    name: str
    algebra: Count
    memory: Count
    disk: int = 0
    passes: int = 0
    rows: Rows | None = None
    layout: Layout = field(default_factory=Layout)
    work: Callable[[BatchShape], Count] | None = None

    @property
    def macs(self) -> Count:
        """Multiply-adds."""
        if self.rows is None or self.work is None:
            return self.algebra
        alike = Counter(self.rows.shapes(self.layout))
        return self.passes * self.rows.scale * sum(self.work(shape) * count for shape, count in alike.items())


@dataclass(frozen=True)
class Choice:
    """What is free to choose.

    Attributes:
        layout: how rows become batches.
        queries: resident at a time.
        group: bytes of gradients that a Gram method keeps at a time.
        activations: bytes of a batch.
    """

    layout: Layout
    queries: int
    group: int
    activations: Count


def swept(name: str, rows: Rows, layout: Layout, work: Callable[[BatchShape], Count], memory: Count, disk: int = 0,
          passes: int = 1) -> Draft:
    """A pass (or several) over rows."""
    return Draft(name, 0, memory, disk, passes, rows, layout, work)


def phases(work: Workload, probe: Probe, choice: Choice) -> list[Draft]:
    """All phases of the method.

    Raises:
        ValueError: a method that looks at texts alone.
    """
    needs = work.call.method.needs
    if work.solver is not None:
        return list(_solver(work, probe, choice))
    if "grams" in needs:
        return list(_gram(work, probe, choice))
    if "hidden" in needs:
        return list(_hidden(work, probe, choice))
    raise ValueError(f"{work.call} looks at texts alone")


def query_blocks(work: Workload, resident: int) -> int:
    """Passes over the training rows."""
    return -(-work.queries.count // resident)


def groups_of(work: Workload, group: int) -> list[int]:
    """Parameters of each group of blocks whose gradients are kept together (`curvature.collect.group_blocks`).

    A block too large by itself makes a group of its own here: whether it fits is asked later.
    """
    each = (work.train.count + work.queries.count) * work.dtype.itemsize
    groups: list[int] = []
    free = 0
    for block in work.blocks:
        need = each * block.parameters
        if not groups or need > free:
            groups.append(0)
            free = group
        groups[-1] += block.parameters
        free -= need
    return groups


def _solver(work: Workload, probe: Probe, choice: Choice) -> Iterator[Draft]:
    blocks, source, curvature = work.blocks, probe.source, work.curvature
    layout, resident, act = choice.layout, choice.queries, choice.activations
    sizes = Sizes(work, probe, max(work.train.shapes(layout), key=lambda shape: shape.tokens))
    queries, rows, dtype = work.queries.count, work.train.count, "F64" if work.dtype.itemsize == 8 else "F32"
    passes, held = query_blocks(work, resident), sizes.vectors(resident)
    collected = sizes.collected() if passes > 1 else 0

    factors = 0
    if curvature is None:
        yield swept(QUERIES, work.queries, layout, lambda s: probe.sweep_macs(s) + flops.gradient_macs(blocks, s),
                    collected + held + max(act, sizes.largest(resident)))
    if curvature is not None:
        parts = curvature.parts if curvature.moments else 0
        shared = curvature.moments == "covariance"
        if curvature.moments:
            def moments(s: BatchShape) -> Count:
                return probe.sweep_macs(s) + (flops.covariance_macs(blocks, source, s) if shared
                                              else flops.shampoo_macs(blocks, s))

            scratch = sizes.masked() if shared else sizes.rotated()
            yield swept(BASES, work.fitted, layout, moments, act + sizes.moments(curvature) + scratch)
            factors = sizes.bases(curvature) + sizes.eigenvalues()
            yield Draft(EIGH, decompositions(work, probe),
                        sizes.moments(curvature) + factors + sizes.decomposition(curvature),
                        disk.bases_bytes(blocks, source, parts, shared, dtype))
        if curvature.corrected:
            yield swept(EIGENVALUES, work.fitted, layout,
                        lambda s: probe.sweep_macs(s) + flops.eigenvalue_macs(blocks, source, parts, shared, s),
                        factors + sizes.eigenvalues() + max(act + sizes.rotated(), sizes.eigenvalues()),
                        disk.eigenvalues_bytes(blocks, dtype))
            factors = sizes.bases(curvature) + sizes.eigenvalues()
        yield swept(QUERIES, work.queries, layout,
                    lambda s: probe.sweep_macs(s) + flops.eigenvalue_macs(blocks, source, parts, shared, s),
                    collected + held + factors + max(act + sizes.rotated(), sizes.largest(resident)))
        low = sizes.solved(resident) + sizes.largest(resident) if work.rank else 0
        yield Draft(SOLVE, flops.solve_macs(blocks, parts, queries) + (flops.svd_macs(blocks, queries) if work.rank
                                                                       else 0),
                    held + factors + low + 3 * 8 * sizes.largest(1) // sizes.item)
    yield swept(PRODUCTS, work.train, layout,
                lambda s: probe.sweep_macs(s) + flops.product_macs(blocks, resident, work.rank, s),
                sizes.collected() + sizes.solved(resident) + max(act + sizes.chunk + sizes.products(resident),
                                                                 sizes.scores()),
                disk.products_bytes(len(blocks), queries, rows) + disk.measured_bytes(queries)
                + disk.scores_bytes(queries, rows) + work.queries.stored, passes)


def decompositions(work: Workload, probe: Probe) -> int:
    """Multiply-adds of all eigendecompositions of a fit."""
    return sum(flops.eigh_macs(size) for size in eigen_sizes(work, probe))


def eigen_sizes(work: Workload, probe: Probe) -> list[int]:
    """Sizes of the matrices whose eigenvectors a fit takes."""
    curvature = work.curvature
    assert curvature is not None
    shared, found = curvature.moments == "covariance", []
    for b, block in enumerate(work.blocks):
        found += flops.parts_of(block.outputs, curvature.parts)
        if not shared or probe.source[b] == b:
            found += flops.parts_of(block.inputs + block.bias, curvature.parts)
    return found


def _gram(work: Workload, probe: Probe, choice: Choice) -> Iterator[Draft]:
    blocks, layout, act = work.blocks, choice.layout, choice.activations
    sizes = Sizes(work, probe, max(work.train.shapes(layout), key=lambda shape: shape.tokens))
    queries, rows = work.queries.count, work.train.count
    groups = groups_of(work, choice.group)
    item, widest = work.dtype.itemsize, max(groups)
    of_queries, of_rows = queries * widest * item, rows * widest * item
    spectral = work.call.method.name in SPECTRAL
    kept = sizes.grams(spectra=False)
    yield swept(QUERIES, work.queries, layout, lambda s: probe.sweep_macs(s) + flops.gradient_macs(blocks, s)
                / len(groups), of_queries + act, passes=len(groups))
    yield swept(TRAIN, work.train, layout, lambda s: probe.sweep_macs(s) + (
        flops.gradient_macs(blocks, s) + flops.dot_macs(blocks, queries, s)) / len(groups),
        of_queries + of_rows + act + kept, passes=len(groups))
    yield Draft(GRAM, flops.gram_macs(rows, work.parameters), of_queries + of_rows + kept + 3 * 8 * rows * rows,
                disk.grams_bytes(len(blocks), rows) + disk.cross_bytes(len(blocks), queries, rows)
                + disk.measured_bytes(queries))
    whole = work.call.options.get("scope") == "model" or not spectral
    count = 1 if whole else len(blocks)
    scratch = (6 if spectral else 2) * 8 * rows * rows
    yield Draft(METHOD, count * (flops.eigh_macs(rows) * spectral + 2 * queries * rows * rows),
                sizes.grams(spectra=spectral) + scratch, disk.scores_bytes(queries, rows) + work.queries.stored)


def _hidden(work: Workload, probe: Probe, choice: Choice) -> Iterator[Draft]:
    queries, rows = work.queries.count, work.train.count
    width = int(getattr(getattr(work.model, "config", None), "hidden_size", 0))
    held = 8 * (queries + rows) * width
    for name, part in ((f"{HIDDEN} of the queries", work.queries), (f"{HIDDEN} of the training rows", work.train)):
        yield swept(name, part, choice.layout, probe.forward_macs, held + choice.activations)
    yield swept(MEASURE, work.queries, choice.layout, probe.forward_macs, held + 8 * queries * rows,
                disk.hidden_bytes(queries, rows, width) + disk.measured_bytes(queries)
                + disk.scores_bytes(queries, rows) + work.queries.stored)
