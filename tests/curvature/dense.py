"""Gauss-Newton matrices built whole, in float64, from explicit Jacobians: the oracle of the products and solvers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev
from torch.nn.attention import SDPBackend, sdpa_kernel

from whence.curvature.blockwise import Product
from whence.data.examples import Examples
from whence.models.blocks import Block


def exact(model: nn.Module) -> nn.Module:
    """`model` with norms that compute in its own data type: Llama's go through float32, whatever the model is in."""
    for module in list(model.modules()):
        for name, norm in module.named_children():
            if type(norm).__name__ == "LlamaRMSNorm":
                setattr(module, name, nn.RMSNorm(len(norm.weight), norm.variance_epsilon).to(norm.weight))
    return model


def weights_of(block: Block, coordinates: Tensor) -> dict[str, Tensor]:
    """The block's parameters by name, from [P] coordinates (weights row-major over [out, in], then the bias)."""
    size = block.outputs * block.inputs
    W = coordinates[:size].view(block.outputs, block.inputs)
    found = {f"{block.name}.weight": W.T if block.kind == "conv1d" else W}
    if block.bias:
        found[f"{block.name}.bias"] = coordinates[size:]
    return found


def coordinates_of(block: Block) -> Tensor:
    """The inverse of `weights_of`."""
    W = block.module.weight.detach()
    parts = [(W.T if block.kind == "conv1d" else W).reshape(-1)]
    return torch.cat([*parts, block.module.bias.detach()] if block.bias else parts)


def factor(z: Tensor, squared_error: bool = False) -> Tensor:
    """R [n, C, C] with R^T R = H, the Hessian of the loss at each of n outputs."""
    if squared_error:
        return torch.eye(z.shape[1], dtype=z.dtype).expand(len(z), -1, -1)
    p = z.softmax(dim=1)
    root = p.sqrt()
    return torch.diag_embed(root) - root[:, :, None] * p[:, None]  # (I - s s^T) diag(s), s s^T a projection


def square_roots(model: nn.Module, blocks: Sequence[Block], outputs: Sequence[tuple[Tensor, slice | Tensor]],
                 squared_error: bool = False) -> list[Tensor]:
    """One `R_i J_i` [n_i C, P] an example; the sum of their squares over N is G.

    `outputs[i]` is the model's input for one example, alone and unpadded, and which of its outputs count.
    """
    model.requires_grad_(False)
    sizes = [block.parameters for block in blocks]
    at = torch.cat([coordinates_of(block) for block in blocks])

    def forward(coordinates: Tensor, given: Tensor, kept: slice | Tensor) -> Tensor:
        state: dict[str, Tensor] = {}
        for block, part in zip(blocks, coordinates.split(sizes), strict=True):
            state |= weights_of(block, part)
        out = functional_call(model, state, (given,))
        return (out if isinstance(out, Tensor) else out.logits[0])[kept]

    found = []
    for given, kept in outputs:
        with sdpa_kernel(SDPBackend.MATH):
            J = jacrev(forward)(at, given, kept).detach()
        with torch.no_grad():
            R = factor(forward(at, given, kept), squared_error)
        found.append(torch.bmm(R, J).flatten(0, 1))
    return found


def language_model(model: nn.Module, blocks: Sequence[Block], data: Examples) -> list[Tensor]:
    """`square_roots` for the logits that predict counted tokens."""
    given = [(torch.from_numpy(tokens)[None], torch.from_numpy(np.flatnonzero(mask) - 1))
             for tokens, mask in zip(data.tokens, data.is_response, strict=True)]
    return square_roots(model, blocks, given)


def matrix(roots: Sequence[Tensor]) -> Tensor:
    """G [P, P]."""
    whole = torch.cat(list(roots))
    return whole.T @ whole / len(roots)


def times(roots: Sequence[Tensor], vectors: Tensor) -> Tensor:
    """`G v` [K, P] without G."""
    return sum(vectors @ root.T @ root for root in roots) / len(roots)  # type: ignore[return-value]


def spd(size: int, seed: int = 0, smallest: float = 1e-4, largest: float = 10.0, rank: int | None = None) -> Tensor:
    """A random positive semi-definite matrix with eigenvalues spread evenly in the logarithm."""
    generator = torch.Generator().manual_seed(seed)
    Q = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]
    values = torch.logspace(np.log10(largest), np.log10(smallest), size, dtype=torch.float64)
    if rank is not None:
        values[rank:] = 0
    return (Q * values) @ Q.T


def vectors(sizes: Sequence[int], count: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Random vectors, one [count, P_b] a block."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, size, generator=generator, dtype=torch.float64).to(dtype) for size in sizes]


def product_of(G: Tensor, sizes: Sequence[int]) -> Product:
    """`v -> G v` on lists of blocks."""
    return lambda v: list((torch.cat(v, dim=1) @ G.to(v[0].dtype)).split(list(sizes), dim=1))


def solve(G: Tensor, v: Sequence[Tensor], damping: float | Sequence[float]) -> Tensor:
    """`(G + Lambda)^-1 v` [K, P], densely."""
    lambdas = [damping] * len(v) if isinstance(damping, float) else damping
    added = torch.cat([torch.full_like(part[0], lam, dtype=G.dtype) for part, lam in zip(v, lambdas, strict=True)])
    return torch.linalg.solve(G + torch.diag(added), torch.cat(list(v), dim=1).double().T).T
