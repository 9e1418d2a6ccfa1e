"""Every gradient method on real models: against dense oracles, loops, other layouts, and one another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests import tiny
from whence.base.errors import WhenceError
from whence.curvature.collect import collect_grams, gradient_dtype, group_blocks
from whence.curvature.damping import RULES, Rule
from whence.curvature.fit import Situation
from whence.curvature.products import collect_products
from whence.data.examples import Examples
from whence.methods.catalogue import solvers_of, standard_calls
from whence.methods.evidence import Evidence
from whence.methods.registry import parse
from whence.models.blocks import select_blocks
from whence.scores.published import read_scores
from whence.sweep.gram import GradientStore
from whence.sweep.sweep import Layout, sweep

GRADIENT_METHODS = [call for call in standard_calls((0.1, 10.0)) if call.method.needs <= {"grams", "products"}
                    and call.method.needs]


def _evidence(model: nn.Module, train: Examples, queries: Examples, layout: Layout | None = None) -> Evidence:
    blocks = select_blocks(model)
    situation = Situation(model, train, blocks, layout=layout or Layout())
    return Evidence(train, queries, collect_grams(model, train, queries, blocks, layout=layout).grams,
                    products=collect_products(situation, queries, solvers_of(GRADIENT_METHODS)))


def _dense(model: nn.Module, train: Examples, queries: Examples, factor: float, whole: bool) -> np.ndarray:
    names = [block.name for block in select_blocks(model)]
    Gs, Vs = tiny.gradients(model, train, names), tiny.gradients(model, queries, names)
    if whole:
        Gs, Vs = [torch.cat(Gs, dim=1)], [torch.cat(Vs, dim=1)]
    total = np.zeros((len(queries), len(train)))
    for G, V in zip(Gs, Vs, strict=True):
        fisher = G.T @ G / len(G)
        damping = factor * fisher.diagonal().mean()
        solved = torch.linalg.solve(fisher + damping * torch.eye(len(fisher), dtype=G.dtype), G.T)
        total += (V @ solved).numpy() / len(G)
    return total


@pytest.mark.parametrize("architecture", ["lora", "gpt2"])
@pytest.mark.parametrize("scope", ["block", "model"])
def test_fisher_equals_a_dense_float64_solve(architecture: str, scope: str) -> None:
    model = getattr(tiny, architecture)()
    train, queries = tiny.examples(13), tiny.examples(4, seed=5)
    evidence = _evidence(model, train, queries)
    for factor in (0.1, 10.0):
        ours = parse(f"fisher(damping={factor}, scope={scope})")(evidence).values
        dense = _dense(model, train, queries, factor, scope == "model")
        np.testing.assert_allclose(ours, dense, atol=1e-8 * np.abs(dense).max())


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", ["fisher", "datainf", "lissa", "lissa-published"])
def test_every_damping_rule_equals_dense_matrices(name: str, rule: Rule) -> None:
    """Each method's matrix on v, formed from eigenvectors in float64, with lambda from dense eigenvalues."""
    model, train, queries = tiny.lora(), tiny.examples(9), tiny.examples(3, seed=5)
    names = [block.name for block in select_blocks(model)]
    Gs, Vs = tiny.gradients(model, train, names), tiny.gradients(model, queries, names)
    spectra = [torch.linalg.eigh(G.T @ G / len(G)) for G in Gs]
    overall = float(torch.cat([mu for mu, _ in spectra]).mean())
    expected, lambdas = np.zeros((3, 9)), []
    for G, V, (mu, E) in zip(Gs, Vs, spectra, strict=True):
        lam = 0.3 * {"block": float(mu.mean()), "largest": float(mu[-1]), "global": overall, "absolute": 1.0}[rule]
        lambdas.append(lam)
        if name == "fisher":
            inverse = E @ torch.diag(1 / (mu + lam)) @ E.T
        elif name == "lissa":
            step = torch.eye(len(mu), dtype=G.dtype) - E @ torch.diag(mu + lam) @ E.T / (mu[-1] + lam)
            inverse = sum(torch.linalg.matrix_power(step, t) for t in range(6)) / (mu[-1] + lam)
        elif name == "lissa-published":
            step = torch.eye(len(mu), dtype=G.dtype) - E @ torch.diag(mu - lam) @ E.T / 1e3
            inverse = sum(torch.linalg.matrix_power(step, t) for t in range(6))
        else:
            inverse = sum((torch.eye(len(g), dtype=g.dtype) - torch.outer(g, g) / (lam + g @ g)) / (len(G) * lam)
                          for g in G)
        expected += (V @ inverse @ G.T).numpy() / len(G)
    iterations = ", iterations=5" if name.startswith("lissa") else ""
    scores = parse(f"{name}(damping=0.3{iterations}, rule={rule})")(_evidence(model, train, queries))
    np.testing.assert_allclose(scores.values, expected, atol=1e-8 * np.abs(expected).max())
    assert scores.facts["damping_rule"] == rule
    assert scores.facts["effective_damping"]["max"] == pytest.approx(max(lambdas), rel=1e-8)


def test_a_rule_is_named_only_where_it_is_given_and_the_default_is_the_block() -> None:
    evidence = _evidence(tiny.lora(dtype=torch.float32), tiny.examples(9), tiny.examples(3, seed=5))
    for name in ("fisher", "datainf", "lissa", "lissa-published"):
        plain, named = parse(f"{name}(damping=0.3)"), parse(f"{name}(damping=0.3, rule=block)")
        assert str(plain) == f"{name}(damping=0.3)" and str(named) == f"{name}(damping=0.3, rule=block)"
        np.testing.assert_array_equal(plain(evidence).values, named(evidence).values)
        assert not np.array_equal(plain(evidence).values, parse(f"{name}(damping=0.3, rule=global)")(evidence).values)
        with pytest.raises(WhenceError, match="rule=model: expected block, largest, global or absolute"):
            parse(f"{name}(rule=model)")(evidence)
    whole = [parse(f"fisher(scope=model, rule={rule})")(evidence).values for rule in ("block", "global")]
    np.testing.assert_array_equal(*whole)  # one block of all parameters


def _loops(name: str, G: torch.Tensor, V: torch.Tensor, damping: float, iterations: int) -> np.ndarray:
    """The methods the way the published code runs them: one query, one block, one training row at a time."""
    n, scores = len(G), np.zeros((len(V), len(G)))
    for q, v in enumerate(V):
        if name == "datainf":
            x = torch.zeros_like(v)
            for g in G:
                x += (v - (v @ g) / (damping + g @ g) * g) / (n * damping)
        else:
            sign, scale = (-1, 1e3) if name == "lissa-published" else (1, float(torch.linalg.eigvalsh(G @ G.T / n)[-1])
                                                                       + damping)
            x = v.clone()
            for _ in range(iterations):
                product = torch.zeros_like(v)
                for g in G:
                    product += ((g @ x) * g + sign * damping * x) / n
                x = v + x - product / scale
            x = x if name == "lissa-published" else x / scale
        scores[q] = [float(x @ g) / n for g in G]
    return scores


@pytest.mark.parametrize(("name", "iterations"), [("datainf", 0), ("lissa-published", 3), ("lissa", 12)])
def test_published_solvers_equal_literal_loops(name: str, iterations: int) -> None:
    model, train, queries = tiny.lora(), tiny.examples(7), tiny.examples(3, seed=5)
    evidence = _evidence(model, train, queries)
    names = [block.name for block in select_blocks(model)]
    expected = np.zeros((3, 7))
    for G, V in zip(tiny.gradients(model, train, names), tiny.gradients(model, queries, names), strict=True):
        damping = 0.1 * float(G.square().mean(dim=1).mean())
        expected += _loops(name, G, V, damping, iterations)
    text = f"{name}(damping=0.1, iterations={iterations})" if iterations else f"{name}(damping=0.1)"
    ours = parse(text)(evidence).values
    np.testing.assert_allclose(ours, expected, atol=1e-6 * np.abs(expected).max())


def test_published_lissa_is_a_multiple_of_gradient_dot_and_the_corrected_one_is_not() -> None:
    """`1 + iterations` times, to 0.2 %, wherever the Fisher's eigenvalues are far below the scale of 1000."""
    model = tiny.lora()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter /= 10  # small adapters, small gradients
    evidence = _evidence(model, tiny.examples(30), tiny.examples(5, seed=5))
    dot = parse("gradient-dot")(evidence).values
    for iterations in (3, 10):
        published = parse(f"lissa-published(iterations={iterations})")(evidence)
        assert iterations * published.facts["largest_step"] < 2e-3
        np.testing.assert_allclose(published.values, (1 + iterations) * dot, atol=2e-3 * np.abs(published.values).max())
    corrected = parse("lissa")(evidence).values
    assert np.corrcoef(corrected.ravel(), dot.ravel())[0, 1] < 0.99


@pytest.mark.parametrize("name", ["math_10", "mixedS_50"])
def test_published_scores_show_the_same_ratio(shared_data: Path, name: str) -> None:
    """The authors' own LiSSA scores are (1 + 3 iterations) x their Hessian-free ones, as our closed form says."""
    folder = shared_data / "li2024" / "scores"
    dot, published = (read_scores(folder / f"llama2-7b-chat.{name}_{method}.csv.gz").values
                      for method in ("gmatch", "lissa"))
    low, median, high = np.percentile(published / dot, [25, 50, 75])
    assert median == pytest.approx(4, rel=2e-3)
    assert (high - low) / median < 2e-3


@pytest.mark.parametrize("architecture", ["lora", "llama", "gpt2"])
def test_scores_do_not_depend_on_the_layout(architecture: str) -> None:
    model = getattr(tiny, architecture)(dtype=torch.float32)
    train, queries = tiny.examples(70), tiny.examples(9, seed=5)
    reference = _evidence(model, train, queries)
    layouts = {"one row": Layout(batch_size=1), "seven": Layout(batch_size=7), "64": Layout(batch_size=64),
               "left": Layout(batch_size=7, side="left")}
    others = {name: _evidence(model, train, queries, layout) for name, layout in layouts.items()}
    order = np.random.default_rng(0).permutation(70)
    shuffled = _evidence(model, train.select(order), queries)
    for call in GRADIENT_METHODS:
        expected = call(reference).values
        for name, evidence in others.items():
            deviation = np.abs(call(evidence).values - expected).max() / np.abs(expected).max()
            assert deviation < 1e-5, (str(call), name, deviation)
        moved = np.abs(call(shuffled).values - expected[:, order]).max() / np.abs(expected).max()
        assert moved < 1e-5, (str(call), "order", moved)


def test_same_inputs_same_bits() -> None:
    model, train, queries = tiny.lora(dtype=torch.float32), tiny.examples(20), tiny.examples(4, seed=5)
    first, second = (_evidence(model, train, queries) for _ in range(2))
    for call in GRADIENT_METHODS:
        np.testing.assert_array_equal(call(first).values, call(second).values)


def test_known_gram_matrices_give_the_same_bits_for_new_queries() -> None:
    model, train = tiny.lora(dtype=torch.float32), tiny.examples(20)
    blocks = select_blocks(model)
    earlier = collect_grams(model, train, tiny.examples(3, seed=8), blocks).grams
    queries = tiny.examples(4, seed=5)
    reused = Evidence(train, queries, collect_grams(model, train, queries, blocks, known=earlier).grams)
    fresh = _evidence(model, train, queries)
    for call in (call for call in GRADIENT_METHODS if call.method.needs == {"grams"}):
        np.testing.assert_array_equal(call(reused).values, call(fresh).values)


def test_shares_by_block_add_up_to_the_score() -> None:
    model, train, queries = tiny.lora(), tiny.examples(12), tiny.examples(4, seed=5)
    evidence = _evidence(model, train, queries)
    for call in GRADIENT_METHODS:
        if call.method.name == "gradient-cosine" or call.options.get("scope") == "model":
            continue  # not sums over blocks
        shares = [call(evidence.only(block)).values for block in range(len(evidence.grams))]
        total = call(evidence).values
        np.testing.assert_allclose(np.sum(shares, axis=0), total, atol=1e-12 * np.abs(total).max())


def test_a_proponent_raises_the_log_probability_when_trained_on() -> None:
    """The sign, on a real model: a step on the strongest proponent helps the query, on the opponent harms it."""
    model, train, queries = tiny.lora(), tiny.examples(40), tiny.examples(6, seed=5)
    scores = parse("gradient-dot")(_evidence(model, train, queries)).values
    names = [name for name, _ in model.named_parameters() if "lora_" in name]
    parameters = [p for name, p in model.named_parameters() if name in names]
    for q in range(len(queries)):
        for j, sign in ((int(scores[q].argmax()), 1), (int(scores[q].argmin()), -1)):
            for p in parameters:
                p.requires_grad_(True)
            before = tiny.log_prob(model, queries, q).item()
            step = torch.autograd.grad(tiny.log_prob(model, train, j), parameters)
            rate = 1e-4
            with torch.no_grad():
                for p, g in zip(parameters, step, strict=True):
                    p += rate * g
                change = float(tiny.log_prob(model, queries, q)) - before
                for p, g in zip(parameters, step, strict=True):
                    p -= rate * g
            assert np.sign(scores[q, j]) == sign == np.sign(change)
            assert change == pytest.approx(rate * len(train) * scores[q, j], rel=0.05)


def test_facts_say_what_was_solved() -> None:
    model, train, queries = tiny.lora(), tiny.examples(12), tiny.examples(4, seed=5)
    evidence = _evidence(model, train, queries)
    for call in GRADIENT_METHODS:
        facts = call(evidence).facts
        assert {"curvature", "effective_damping", "parameters", "n", "loss"} <= set(facts)
        assert facts["parameters"] == sum(block.parameters for block in select_blocks(model))
    loose = parse("lissa(iterations=1)")(evidence).facts["residual"]["median"]
    tight = parse("lissa(iterations=1000)")(evidence).facts["residual"]["median"]
    assert tight < loose < 1


def test_blocks_are_grouped_by_memory() -> None:
    blocks = select_blocks(tiny.llama())
    largest = max(block.parameters for block in blocks)
    groups = group_blocks(blocks, rows=10, itemsize=4, memory=10 * 4 * largest)
    assert [block for group in groups for block in group] == blocks
    assert len(groups) > 1
    assert all(sum(b.parameters for b in group) <= largest for group in groups)
    assert len(group_blocks(blocks, rows=10, itemsize=4, memory=2**30)) == 1
    with pytest.raises(Exception, match="attribute fewer rows"):
        group_blocks(blocks, rows=10, itemsize=4, memory=100)


def test_bfloat16_models_are_accumulated_in_float32() -> None:
    """Gradients of a bfloat16 model are kept in float32; its scores are close to those of the same weights in it."""
    train, queries = tiny.examples(40), tiny.examples(5, seed=5)
    half = tiny.lora(dtype=torch.bfloat16)
    full = tiny.lora(dtype=torch.bfloat16).to(torch.float32)
    blocks = select_blocks(half)
    store = GradientStore(blocks, len(train), dtype=gradient_dtype(half))
    sweep(half, train, blocks, [store])
    assert {gradients.dtype for gradients in store.gradients} == {torch.float32}
    ours, expected = (parse("gradient-dot")(_evidence(model, train, queries)).values for model in (half, full))
    assert np.corrcoef(ours.ravel(), expected.ravel())[0, 1] > 0.99
