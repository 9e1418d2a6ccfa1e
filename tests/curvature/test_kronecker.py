"""Curvatures in Kronecker eigenbases against matrices built densely in float64, and exact where theory says so."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests import tiny
from tests.curvature import dense as oracle
from whence.base.errors import WhenceError
from whence.curvature.damping import Damping
from whence.curvature.fit import Situation, default_rows, label_draws, sample_rows
from whence.curvature.kronecker import BlockCurvature, Curvature, eigenvectors
from whence.curvature.products import collect_products, solve_queries
from whence.curvature.solver import Identity, Kronecker
from whence.measure.labels import SampledLabels
from whence.models.blocks import Block, select_blocks
from whence.sweep.basis import Basis, flattened, homogeneous
from whence.sweep.capture import Captured
from whence.sweep.covariance import CovarianceSink
from whence.sweep.eigenvalues import EigenvalueSink
from whence.sweep.gram import GradientStore
from whence.sweep.rotated import RotatedStore
from whence.sweep.sweep import Layout, sweep

MODELS = {"llama": tiny.llama, "gpt2": tiny.gpt2, "lora": tiny.lora}
CORRECTED = ("diagonal", "ekfac", "eshampoo")


def situation(architecture: str = "gpt2", rows: int = 9, **options: object) -> Situation:
    model = MODELS[architecture]()
    return Situation(model, tiny.examples(rows), select_blocks(model), **options)  # type: ignore[arg-type]


def matrices(here: Situation, labels: str) -> list[Tensor]:
    """[N, out, in'] a block: per-example gradients for the labels that a curvature saw."""
    if labels == "empirical":
        flat = tiny.gradients(here.model, here.train, [block.name for block in here.blocks])
    else:
        store = GradientStore(here.blocks, len(here.train), dtype=torch.float64)
        sweep(here.model, here.train, here.blocks, [store], labels=SampledLabels(0), layout=Layout(batch_size=1))
        flat = store.take()
    return [homogeneous(G, block.outputs, block.inputs, block.bias) for G, block in zip(flat, here.blocks, strict=True)]


def dense_basis(block: BlockCurvature) -> Tensor:
    """Q_S x Q_A as one matrix on row-major [out, in'] coordinates."""
    return torch.kron(torch.block_diag(*block.basis.s), torch.block_diag(*block.basis.a))


def dense(block: BlockCurvature) -> Tensor:
    """C as one matrix."""
    Q = dense_basis(block) if block.basis.s else torch.eye(block.eigenvalues.numel(), dtype=torch.float64)
    return Q @ torch.diag(block.eigenvalues.flatten()) @ Q.T


@pytest.mark.parametrize("architecture", MODELS)
@pytest.mark.parametrize("labels", ["sampled", "empirical"])
def test_corrected_eigenvalues_are_the_diagonal_of_the_fisher_in_the_basis(architecture: str, labels: str) -> None:
    here = situation(architecture)
    for G, block in zip(matrices(here, labels), here.fit(Curvature("ekfac", labels, draws=1)).blocks, strict=True):
        flat = G.flatten(1)
        fisher = flat.T @ flat / len(flat)
        Q = dense_basis(block)
        torch.testing.assert_close(block.eigenvalues.flatten(), (Q.T @ fisher @ Q).diagonal(), rtol=1e-8, atol=1e-14)
        torch.testing.assert_close(Q.T @ Q, torch.eye(len(Q), dtype=torch.float64), rtol=0, atol=1e-12)


def test_sampled_labels_average_to_the_gauss_newton_diagonal() -> None:
    """Mean over 400 seeds of diag(Q^T F Q) against diag(Q^T G Q), G from explicit Jacobians; and the labels of the
    data, which are no draw from the model, do not."""
    model, data, seeds = tiny.gpt2(), tiny.examples(5), 400
    blocks = select_blocks(model, ["h.1.attn.c_proj", "h.0.mlp.c_fc"])
    here = Situation(model, data, blocks)
    fitted = here.fit(Curvature("ekfac")).blocks
    bases = [block.basis for block in fitted]

    def moments(labels: SampledLabels | None) -> Tensor:
        sink = EigenvalueSink(blocks, bases, dtype=torch.float64)
        sweep(model, data, blocks, [sink], labels=labels)
        return torch.cat([moment.flatten() for moment in sink.moments]) / len(data)

    drawn = torch.stack([moments(SampledLabels(seed)) for seed in range(seeds)])
    roots = [matrix.split([block.parameters for block in blocks], dim=1)
             for matrix in oracle.language_model(model, blocks, data)]
    exact = []
    for b, (block, curved) in enumerate(zip(blocks, fitted, strict=True)):
        flat = torch.cat([homogeneous(root[b], block.outputs, block.inputs, block.bias).flatten(1) for root in roots])
        exact.append((flat @ dense_basis(curved)).square().sum(dim=0) / len(data))
    expected = torch.cat(exact)
    seen = expected > 1e-9 * expected.max()  # the others are zero but for rounding
    assert float(seen.double().mean()) > 0.2 and float(drawn[:, ~seen].max()) < 1e-8 * float(expected.max())
    expected, drawn, data_labels = expected[seen], drawn[:, seen], moments(None)[seen]
    error = drawn.std(dim=0) / seeds**0.5
    z = (drawn.mean(dim=0) - expected) / error
    assert float(z.square().mean()) < 1.5 and float(z.abs().max()) < 6  # 1 and about 4.3 for so many normal ones
    assert float(((data_labels - expected) / error).square().mean()) > 15
    assert float((drawn.mean() / expected.mean() - 1).abs()) < 0.02


@pytest.mark.parametrize("architecture", MODELS)
def test_diagonal_and_shampoo_are_their_definitions(architecture: str) -> None:
    here = situation(architecture)
    shampoo, diagonal = (here.fit(Curvature(kind, "empirical")).blocks for kind in ("shampoo", "diagonal"))
    for G, by_shampoo, by_entry in zip(matrices(here, "empirical"), shampoo, diagonal, strict=True):
        L, R = (G @ G.mT).mean(dim=0), (G.mT @ G).mean(dim=0)
        torch.testing.assert_close(dense(by_shampoo), torch.kron(L, R) / L.trace(), rtol=1e-8, atol=1e-14)
        torch.testing.assert_close(by_entry.eigenvalues, G.square().mean(dim=0), rtol=1e-8, atol=1e-16)


def test_kfac_is_the_product_of_the_token_covariances() -> None:
    here = situation("gpt2")
    kept: list[tuple[Tensor, Tensor]] = []

    class Keep:
        def update(self, share: Captured) -> None:
            if share.block == 0:
                kept.append((share.a[share.reach], share.d[share.reach]))

        def finish(self, order: np.ndarray) -> None: ...

    sweep(here.model, here.train, here.blocks, [Keep()])
    a, d = (torch.cat(parts) for parts in zip(*kept, strict=True))
    a = torch.cat([a, torch.ones(len(a), 1, dtype=a.dtype)], dim=1)
    assert len(a) == sum(int(np.flatnonzero(mask)[-1]) for mask in here.train.is_response)  # none after the last label
    block = here.fit(Curvature("kfac", "empirical")).blocks[0]
    expected = torch.kron(d.T @ d / len(d), a.T @ a / len(a)) * len(a) / len(here.train)
    torch.testing.assert_close(dense(block), expected, rtol=1e-8, atol=1e-14)


def test_kfac_and_ekfac_are_exact_where_inputs_and_gradients_are_independent() -> None:
    """One linear layer, one token a row, every a met with every d: then E[aa^T x dd^T] = E[aa^T] x E[dd^T]."""
    draw = torch.Generator().manual_seed(0)
    a, d = torch.randn(5, 3, generator=draw).double(), torch.randn(4, 2, generator=draw).double()
    a_all, d_all = a.repeat_interleave(4, dim=0)[:, None], d.repeat(5, 1)[:, None]  # [20, 1, .]
    block = Block("one", nn.Linear(3, 2), "linear", 3, 2, True, 8, None)
    share = Captured(0, 0, a_all, d_all, torch.ones(20, 1, dtype=torch.bool), slice(0, 20), True)
    covariances = CovarianceSink([block], dtype=torch.float64)
    covariances.update(share)
    covariances.finish(np.arange(20))
    Q_A, l_A = eigenvectors(covariances.inputs[0], 1, "one")
    Q_S, l_S = eigenvectors(covariances.outputs[0], 1, "one")
    gauss_newton = torch.zeros(8, 8, dtype=torch.float64)
    for i in range(20):
        g = torch.outer(d_all[i, 0], torch.cat([a_all[i, 0], torch.ones(1).double()])).flatten()
        gauss_newton += torch.outer(g, g) / 20
    basis = Basis(Q_A, Q_S)
    kfac = BlockCurvature("one", basis, torch.outer(l_S, l_A) / 400)
    torch.testing.assert_close(dense(kfac), gauss_newton, rtol=1e-10, atol=1e-12)
    sink = EigenvalueSink([block], [basis], dtype=torch.float64)
    sink.update(share)
    torch.testing.assert_close(sink.moments[0] / 20, kfac.eigenvalues, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["kfac", *CORRECTED, "shampoo"])
@pytest.mark.parametrize("architecture", ["gpt2", "lora"])
def test_scores_equal_a_dense_solve(kind: str, architecture: str) -> None:
    here, queries = situation(architecture), tiny.examples(4, seed=5)
    solver = Kronecker(Curvature(kind), Damping(0.1))  # type: ignore[arg-type]
    scores = collect_products(here, queries, [solver])[solver]
    fitted = here.fit(solver.curvature)
    names = [block.name for block in here.blocks]
    for b, (V, G) in enumerate(zip(tiny.gradients(here.model, queries, names),
                                   tiny.gradients(here.model, here.train, names), strict=True)):
        block = here.blocks[b]
        v, g = (homogeneous(x, block.outputs, block.inputs, block.bias).flatten(1) for x in (V, G))
        C = dense(fitted.blocks[b])
        damped = C + 0.1 * C.diagonal().mean() * torch.eye(len(C), dtype=torch.float64)
        expected = (v @ torch.linalg.solve(damped, g.T)).numpy()
        np.testing.assert_allclose(scores.by_block[b], expected, rtol=0, atol=1e-8 * np.abs(expected).max())


def test_low_rank_at_full_rank_is_full_and_lower_is_the_best_approximation() -> None:
    here, queries = situation("gpt2"), tiny.examples(3, seed=5)
    full, whole, low = (Kronecker(Curvature("ekfac"), rank=rank) for rank in (0, 16, 2))
    found = collect_products(here, queries, [full, whole, low])
    np.testing.assert_allclose(found[whole].by_block, found[full].by_block, rtol=1e-8, atol=1e-12)
    assert not np.allclose(found[low].total(), found[full].total(), rtol=1e-3)
    X, Y = (solve_queries(here, queries, [solver])[0][0].vectors[0].whole() for solver in (full, low))
    block = here.blocks[0]
    for x, y in zip(homogeneous(X, block.outputs, block.inputs, block.bias),
                    homogeneous(Y, block.outputs, block.inputs, block.bias), strict=True):
        left_out = torch.linalg.svdvals(x)[2:].square().sum()
        torch.testing.assert_close((x - y).square().sum(), left_out, rtol=1e-8, atol=1e-14)


def test_layout_of_bias_and_weights_goes_there_and_back() -> None:
    flat = torch.arange(2 * 15.0).view(2, 15)
    matrix = homogeneous(flat, 3, 4, True)
    assert matrix.shape == (2, 3, 5)
    assert matrix[0, :, 4].tolist() == [12, 13, 14]
    assert torch.equal(flattened(matrix, True), flat)


@pytest.mark.parametrize("kind", ["kfac", "ekfac", "shampoo", "eshampoo", "diagonal"])
def test_a_fit_does_not_depend_on_the_layout(kind: str) -> None:
    fits = []
    for layout in (Layout(), Layout(batch_size=1), Layout(batch_size=4, side="left")):
        here = situation("llama", layout=layout)
        fits.append([dense(block) for block in here.fit(Curvature(kind)).blocks])  # type: ignore[arg-type]
    for other in fits[1:]:
        for C, D in zip(fits[0], other, strict=True):
            torch.testing.assert_close(C, D, rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("architecture", MODELS)
@pytest.mark.parametrize(("kind", "parts"), [("ekfac", 1), ("ekfac", 2), ("diagonal", 1), ("shampoo", 1)])
def test_solving_from_coordinates_is_solving_from_gradients(architecture: str, kind: str, parts: int) -> None:
    here, queries = situation(architecture), tiny.examples(3, seed=5)
    fitted = here.fit(Curvature(kind, parts=parts)).blocks  # type: ignore[arg-type]
    whole, rotated = GradientStore(here.blocks, 3, dtype=torch.float64), RotatedStore(
        here.blocks, [block.basis for block in fitted], 3, dtype=torch.float64)
    for store in (whole, rotated):
        sweep(here.model, queries, here.blocks, [store])
    for block, curved, V, coordinates in zip(here.blocks, fitted, whole.take(), rotated.take(), strict=True):
        matrix = homogeneous(V, block.outputs, block.inputs, block.bias)
        torch.testing.assert_close(coordinates, curved.rotated(matrix).flatten(1), rtol=1e-8, atol=1e-14)
        expected = flattened(curved.solve(matrix, 0.01), block.bias)
        curved.solve_each(V, block.bias, 0.01)
        curved.solve_rotated(coordinates, block.bias, 0.01)
        torch.testing.assert_close(V, expected, rtol=1e-8, atol=1e-12)
        torch.testing.assert_close(coordinates, expected, rtol=1e-8, atol=1e-12)


def test_draws_are_rows_with_other_labels() -> None:
    """Moments of three labels a token are those of the rows three times over, each time with labels of its own."""
    here, draws = situation("gpt2", rows=5), 3
    over = here.train.over(draws)
    store = GradientStore(here.blocks, len(over), dtype=torch.float64)
    sweep(here.model, over, here.blocks, [store], labels=SampledLabels(2, every=5))
    once = here.fit(Curvature("diagonal", seed=2, draws=1)).blocks
    for flat, block, diagonal, shampoo, kfac, single in zip(
            store.take(), here.blocks, here.fit(Curvature("diagonal", seed=2, draws=draws)).blocks,
            here.fit(Curvature("shampoo", seed=2, draws=draws)).blocks,
            here.fit(Curvature("kfac", seed=2, draws=draws)).blocks, once, strict=True):
        G = homogeneous(flat, block.outputs, block.inputs, block.bias)
        torch.testing.assert_close(diagonal.eigenvalues, G.square().mean(dim=0), rtol=1e-8, atol=1e-16)
        torch.testing.assert_close(single.eigenvalues, G[:5].square().mean(dim=0), rtol=1e-8, atol=1e-16)
        assert not torch.allclose(G[:5], G[5:10])
        L, R = (G @ G.mT).mean(dim=0), (G.mT @ G).mean(dim=0)
        torch.testing.assert_close(dense(shampoo), torch.kron(L, R) / L.trace(), rtol=1e-8, atol=1e-14)
        sizes = here.fit(Curvature("kfac", seed=2, draws=1)).blocks[here.blocks.index(block)].mean
        assert 0.3 < kfac.mean / sizes < 3
    for wrong in ({"draws": -1}, {"draws": 2, "labels": "empirical"}):
        with pytest.raises(WhenceError, match=r"draws=-?.: expected 0 .enough. or more"):
            Curvature("ekfac", **wrong)  # type: ignore[arg-type]


def test_blocks_with_the_same_inputs_share_their_basis() -> None:
    fitted = situation("llama").fit(Curvature("ekfac"))
    names = [block.name for block in fitted.blocks]
    q, k, v, o = (fitted.blocks[names.index(f"model.layers.0.self_attn.{x}_proj")].basis.a for x in "qkvo")
    assert q is k is v and o is not q


def test_parts_cut_the_covariances_into_blocks() -> None:
    whole, cut = (situation().fit(Curvature("kfac", parts=parts)).blocks[0] for parts in (1, 2))
    assert [len(Q) for Q in cut.basis.a] == [9, 8] and [len(Q) for Q in cut.basis.s] == [24, 24]
    A = torch.block_diag(*whole.basis.a)
    assert cut.mean == pytest.approx(whole.mean)  # the trace of a Kronecker product of traces
    assert A.shape == (17, 17)


def test_damping_rules() -> None:
    means, largest, sizes = [1.0, 4.0], [10.0, 20.0], [30, 10]
    assert Damping(0.1).of(means, largest, sizes) == pytest.approx([0.1, 0.4])
    assert Damping(0.1, "largest").of(means, largest, sizes) == pytest.approx([1, 2])
    assert Damping(0.1, "global").of(means, largest, sizes) == pytest.approx([0.175, 0.175])
    assert Damping(0.1, "absolute").of(means, largest, sizes) == pytest.approx([0.1, 0.1])
    with pytest.raises(WhenceError, match=r"rule=mine: expected block, largest, global or absolute"):
        Damping(0.1, "mine")
    with pytest.raises(WhenceError, match="expected a positive number"):
        Damping(0.0)
    with pytest.raises(WhenceError, match="every training gradient of a block is zero"):
        Damping(0.1).of([0.0], [0.0], [3])


def test_facts_say_what_was_really_solved() -> None:
    here, solver = situation(), Kronecker(Curvature("ekfac", rows=5), Damping(0.5, "global"))
    facts = collect_products(here, tiny.examples(2, seed=5), [solver])[solver].facts
    assert facts["curvature"] == "ekfac" and facts["damping_rule"] == "global"
    assert facts["fit"] == {"labels": "sampled", "rows": 5, "n": 9, "seed": 0, "parts": 1, "draws": 1}
    lambdas = solver.lambdas(here.fit(solver.curvature))
    assert facts["effective_damping"]["min"] == pytest.approx(min(lambdas))
    assert 0 < facts["effective_dimension"] < facts["parameters"] == sum(block.parameters for block in here.blocks)


def test_a_sample_is_seeded_and_bounded() -> None:
    here = situation(rows=30)
    first, again, other = (sample_rows(here.train, here.blocks, Curvature("kfac", rows=7, seed=seed))
                           for seed in (0, 0, 1))
    assert len(first) == 7 and first.tolist() == again.tolist() != other.tolist()
    assert len(sample_rows(here.train, here.blocks, Curvature("kfac", rows=-1))) == 30
    assert len(sample_rows(here.train, here.blocks, Curvature("kfac", rows=99))) == 30
    wanted = default_rows(here.train, here.blocks)
    assert wanted > 30  # a small set is used whole, with so many labels a token as make up for what it lacks
    assert here.fit(Curvature("kfac")).curvature.draws == min(16, -(-wanted // 30)) > 1
    assert here.fit(Curvature("kfac", rows=7)).curvature.draws == 1  # there are more rows, which would say more
    assert here.fit(Curvature("kfac", draws=3)).curvature.draws == 3
    assert here.fit(Curvature("kfac", "empirical")).curvature.draws == 1
    for used, draws in ((100, 1), (99, 2), (50, 2), (49, 3), (1, 16)):
        assert label_draws(Curvature("ekfac"), 100, used, used) == draws
    with pytest.raises(WhenceError, match="rows=-2: expected a number of rows"):
        Curvature("kfac", rows=-2)


def test_queries_that_do_not_fit_are_taken_in_blocks_with_the_same_result() -> None:
    here, queries = situation(), tiny.examples(5, seed=5)
    solvers = [Identity(), Kronecker(Curvature("kfac"))]
    parameters = sum(block.parameters for block in here.blocks)
    whole = collect_products(here, queries, solvers)
    split = collect_products(here, queries, solvers, memory=2 * 3 * 8 * parameters)
    assert split[solvers[1]].facts["query_blocks"] == 3
    for solver in solvers:
        np.testing.assert_allclose(split[solver].by_block, whole[solver].by_block, rtol=1e-10, atol=1e-14)
    with pytest.raises(WhenceError, match="the vectors of one query take"):
        collect_products(here, queries, solvers, memory=1000)


def test_not_finite_covariances_name_the_block() -> None:
    with pytest.raises(WhenceError, match=r"block 'mlp.up': NaN or infinity in a covariance"):
        eigenvectors(torch.full((2, 2), float("nan")), 1, "block 'mlp.up'")
