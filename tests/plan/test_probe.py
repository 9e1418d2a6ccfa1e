"""What the probe says is saved, against a count of another batch; and what the allocator is seen to hold."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests import tiny
from whence.data.batch import collate
from whence.models.blocks import select_blocks
from whence.plan.probe import Growth, probe
from whence.plan.resident import peak_resident
from whence.plan.workload import BatchShape, numbered
from whence.sweep.capture import captured, frozen
from whence.sweep.fused import fused


def saved_bytes(model: nn.Module, rows: list[int]) -> int:
    """Storages that autograd saves in one forward pass, and the blocks' inputs, weights left out."""
    blocks, data = select_blocks(model), numbered(tiny.examples(20), rows)
    batch, kept = collate(data, range(len(data)), 0), []
    handles = [block.module.register_forward_pre_hook(lambda _, args: kept.append(args[0])) for block in blocks]
    weights = {p.untyped_storage().data_ptr() for p in (*model.parameters(), *model.buffers())}

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with frozen(model), fused(model), captured(model, blocks, lambda *share: None), \
            torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask,
                       position_ids=batch.position_ids, logits_to_keep=1)
    for handle in handles:
        handle.remove()
    del output
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in kept}
    return sum(size for place, size in storages.items() if place not in weights)


@pytest.mark.parametrize("make", [tiny.llama, tiny.gpt2, tiny.lora])
def test_saved_bytes_of_a_batch_that_was_not_probed(make: Callable[..., nn.Module]) -> None:
    model, data = make(dtype=torch.float32), tiny.examples(20)
    seen = probe(model, select_blocks(model), data, 0)
    longest, shortest = int(data.lengths.argmax()), int(data.lengths.argmin())
    rows = [longest] * 5 + [shortest]
    assert seen.saved(6, int(data.lengths.max())) == pytest.approx(saved_bytes(model, rows), rel=0.05)


def test_blocks_with_the_same_inputs_are_found() -> None:
    model = tiny.llama(dtype=torch.float32)
    assert probe(model, select_blocks(model), tiny.examples(8), 0).source[:7] == (0, 0, 0, 3, 4, 4, 6)


def test_a_growth_goes_through_its_three_points() -> None:
    truth = Growth(100.0, 7.0, 3.0)
    found = Growth.through(12, truth(2, 12), truth(3, 12), 6, truth(2, 6))
    assert (found.fixed, found.linear, found.square) == pytest.approx((100, 7, 3))
    assert found(9, 31) == pytest.approx(truth(9, 31))


def test_the_probe_leaves_the_model_as_it_was() -> None:
    model = tiny.llama(dtype=torch.float32).train()
    before = {name: p.clone() for name, p in model.named_parameters()}
    probe(model, select_blocks(model), tiny.examples(8), 0)
    assert model.training and all(p.requires_grad and p.grad is None for p in model.parameters())
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_more_counted_tokens_cost_the_head_alone() -> None:
    model = tiny.llama(dtype=torch.float32)
    seen = probe(model, select_blocks(model), tiny.examples(8), 0)
    few, many = BatchShape(4, 10, 5), BatchShape(4, 10, 25)
    assert seen.head == 16 * tiny.VOCAB
    assert seen.forward_macs(many) - seen.forward_macs(few) == 20 * seen.head
    assert seen.sweep_macs(many) - seen.sweep_macs(few) == 40 * seen.head


def test_the_peak_of_resident_memory_is_seen() -> None:
    with peak_resident(torch.device("cpu")) as peak:
        before = peak.bytes
        block = torch.ones(64 << 20, dtype=torch.uint8)
        time.sleep(0.05)
        del block
    assert 60 << 20 <= peak.bytes - before <= 100 << 20
