"""Scores by parts of the model: every part named, all parts adding up to the score."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from tests import tiny
from whence.base.errors import WhenceError
from whence.models.blocks import list_blocks, select_blocks
from whence.views.layers import OUTSIDE, by_block, by_layer, by_layer_group, by_module, module_type


@dataclass(frozen=True)
class Place:
    name: str
    layer: int | None


def places(layers: int) -> list[Place]:
    inside = [Place(f"model.layers.{i}.{m}", i) for i in range(layers) for m in ("self_attn.q_proj", "mlp.up_proj")]
    return [Place("lm_head", None), *inside]


def scores(blocks: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(blocks, 2, 5))


def test_parts_are_sums_of_their_blocks_and_add_up() -> None:
    blocks = places(5)
    values = scores(len(blocks))
    for parts in (by_block(values, blocks), by_layer(values, blocks), by_layer_group(values, blocks, 3),
                  by_module(values, blocks)):
        assert sorted(b for part in parts.blocks for b in part) == list(range(len(blocks)))
        for part, members in zip(parts.values, parts.blocks, strict=True):
            np.testing.assert_allclose(part, sum(values[b] for b in members), rtol=1e-13)
        np.testing.assert_allclose(parts.total, values.sum(axis=0), rtol=1e-12)
        assert len(set(parts.names)) == len(parts.names) == len(parts.values)


def test_names() -> None:
    blocks = places(5)
    values = scores(len(blocks))
    assert by_block(values, blocks).names[:2] == ("lm_head", "model.layers.0.self_attn.q_proj")
    assert by_layer(values, blocks).names == (*(f"layer {i}" for i in range(5)), OUTSIDE)
    assert by_layer_group(values, blocks, 3).names == ("layers 0-1", "layers 2-3", "layer 4", OUTSIDE)
    assert by_layer_group(values, blocks, 1).names == ("layers 0-4", OUTSIDE)
    assert by_module(values, blocks).names == ("lm_head", "self_attn.q_proj", "mlp.up_proj")


def test_layers_count_as_numbers_whatever_the_order_of_the_blocks() -> None:
    blocks = places(12)[::-1]
    names = by_layer(scores(len(blocks)), blocks).names
    assert names[1:3] == ("layer 1", "layer 2") and names[-2:] == ("layer 11", OUTSIDE)


def test_a_restriction_is_the_sum_of_its_parts() -> None:
    blocks = places(4)
    values = scores(len(blocks))
    thirds = by_layer_group(values, blocks, 2)
    np.testing.assert_allclose(thirds.only("layers 2-3"), values[5:].sum(axis=0), rtol=1e-13)
    np.testing.assert_allclose(thirds.only(*thirds.names, "layers 2-3"), thirds.total, rtol=1e-12)  # named twice
    with pytest.raises(WhenceError, match="no layer group named 'upper'; expected one of layers 0-1, layers 2-3"):
        thirds.only("upper")
    with pytest.raises(WhenceError, match="name at least one layer group"):
        thirds.only()


@pytest.mark.parametrize(("model", "modules"), [
    (tiny.gpt2, ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")),
    (tiny.lora, tuple(f"self_attn.{m}.lora_{x}" for m in ("q_proj", "v_proj") for x in "AB"))])
def test_blocks_of_real_models(model: object, modules: tuple[str, ...]) -> None:
    blocks = select_blocks(model())  # type: ignore[operator]
    values = scores(len(blocks))
    assert by_module(values, blocks).names == modules
    assert by_layer(values, blocks).names == ("layer 0", "layer 1")
    assert [module_type(block.name) for block in list_blocks(tiny.llama())][-1] == "lm_head"


def test_experts_of_a_mixture_are_one_module() -> None:
    assert module_type("model.layers.3.mlp.experts.17.up_proj") == "mlp.experts.*.up_proj"


@pytest.mark.parametrize("groups", [0, 5])
def test_more_groups_than_layers_are_refused(groups: int) -> None:
    with pytest.raises(WhenceError, match=rf"groups={groups}: the blocks stand in 4 layers; expected 1 to 4"):
        by_layer_group(scores(9), places(4), groups)


def test_scores_of_other_blocks_are_refused() -> None:
    with pytest.raises(WhenceError, match="scores of 8 blocks, and 9 blocks"):
        by_block(scores(8), places(4))
