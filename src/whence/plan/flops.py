"""Multiply-adds of what is done beside forward and backward, by the shapes of the blocks; a FLOP count is twice that.

As the sinks do it: covariances by stripes of the upper triangle, inputs that several blocks share once, rotation of
factors or of gradients (whichever is cheaper for the block and the length of the batch), vectors by tiles. Elementwise
work is not counted. Each function takes a batch shape with B rows of T positions.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from whence.models.blocks import Block
from whence.plan.workload import BatchShape
from whence.sweep.covariance import SMALLEST, STRIPES


def gram_area(size: int) -> int:
    """Entries of a `size` x `size` matrix that `sweep.covariance.add_gram` computes."""
    step = max(SMALLEST, -(-size // STRIPES))
    return sum((min(start + step, size) - start) * (size - start) for start in range(0, size, step))


def parts_of(size: int, parts: int) -> list[int]:
    """Sizes of the diagonal blocks that a factor is cut into."""
    return [len(piece) for piece in torch.arange(size).tensor_split(min(parts, size))]


def area(size: int, parts: int) -> int:
    """Numbers in the basis of a factor; 0 parts: no basis."""
    return sum(part * part for part in parts_of(size, parts)) if parts else 0


def gradient_macs(blocks: Sequence[Block], shape: BatchShape) -> int:
    """`sum_t d_t a_t^T` of each row."""
    return shape.tokens * sum(block.inputs * block.outputs for block in blocks)


def covariance_macs(blocks: Sequence[Block], source: Sequence[int], shape: BatchShape) -> int:
    """A and S over the positions of a batch."""
    return shape.tokens * sum(gram_area(block.outputs) + (gram_area(block.inputs) if source[b] == b else 0)
                              for b, block in enumerate(blocks))


def shampoo_macs(blocks: Sequence[Block], shape: BatchShape) -> int:
    """Each row's gradient, and its products with itself from both sides."""
    total = 0
    for block in blocks:
        wide = block.inputs + block.bias
        total += shape.tokens * wide * block.outputs
        total += shape.rows * (block.outputs * gram_area(wide) + wide * gram_area(block.outputs))
    return total


def eigenvalue_macs(blocks: Sequence[Block], source: Sequence[int], parts: int, shared: bool,
                    shape: BatchShape) -> int:
    """Each row's gradient in the basis of its block.

    Args:
        source: for each block, the first with the same inputs.
        parts: diagonal blocks of each factor; 0 for the identity as basis.
        shared: whether blocks with the same inputs have the same basis for them.
    """
    total, rows, length = 0, shape.rows, shape.length
    rotated: tuple[int, bool] | None = None  # blocks with the same inputs follow each other, and share their rotation
    for b in reversed(range(len(blocks))):
        block = blocks[b]
        wide, outputs = block.inputs + block.bias, block.outputs
        of_inputs, of_outputs = area(wide, parts), area(outputs, parts)
        by_factor = length * (of_inputs + of_outputs) <= outputs * of_inputs + wide * of_outputs
        total += rows * length * wide * outputs
        if not by_factor:
            total += rows * (outputs * of_inputs + wide * outputs * outputs * bool(parts))
            continue
        total += rows * length * of_outputs
        if parts and not (shared and rotated == (source[b], True)):
            constant = parts_of(wide, parts)[-1] if block.bias else 0  # the 1 beside the inputs is not multiplied
            total += rows * length * (of_inputs - constant)
        rotated = source[b], True
    return total


def product_macs(blocks: Sequence[Block], queries: int, rank: int, shape: BatchShape) -> int:
    """The gradients of a batch, and their products with the vectors of every query."""
    total = gradient_macs(blocks, shape)
    for block in blocks:
        weights = block.inputs * block.outputs
        total += queries * weights * shape.rows
        if block.bias:
            total += queries * block.outputs * shape.rows
        r = min(rank, block.outputs, block.inputs + block.bias)
        total += queries * r * (weights + block.outputs * block.bias)  # low-rank vectors made whole, tile by tile
    return total


def dot_macs(blocks: Sequence[Block], queries: int, shape: BatchShape) -> int:
    """Products of whole query gradients with those of a batch that are formed already."""
    return shape.rows * queries * sum(block.parameters for block in blocks)


def solve_macs(blocks: Sequence[Block], parts: int, queries: int) -> int:
    """Two rotations back for the coordinates of each query."""
    return queries * sum(block.outputs * area(block.inputs + block.bias, parts)
                         + (block.inputs + block.bias) * area(block.outputs, parts) for block in blocks)


def svd_macs(blocks: Sequence[Block], queries: int) -> int:
    """Thin singular value decompositions, `3 m n^2 + 10 n^3` for m x n with m >= n (Golub & Van Loan, fig. 8.6.1)."""
    total = 0
    for block in blocks:
        n, m = sorted((block.outputs, block.inputs + block.bias))
        total += queries * (3 * m * n * n + 10 * n**3)
    return total


def eigh_macs(size: int) -> int:
    """All eigenvectors of a symmetric matrix: `3 n^3`, tridiagonal form, divide and conquer, and back."""
    return 3 * size**3


def gram_macs(rows: int, parameters: int) -> int:
    """`G G^T` by symmetry."""
    return rows * (rows + 1) // 2 * parameters
