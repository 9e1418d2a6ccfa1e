"""Which linear maps there are and which are chosen; the verb that lists them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import typer
from peft import IA3Config, get_peft_model
from rich.console import Console
from torch import nn
from typer.testing import CliRunner

from tests.models.conftest import Build, adapt
from whence.base.errors import WhenceError
from whence.cli.blocks import blocks as verb
from whence.models.blocks import describe_blocks, list_blocks, select_blocks
from whence.models.quiet import quiet

LLAMA = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
         "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")


def names(blocks: list) -> list[str]:
    return [block.name for block in blocks]


def test_llama(build: Build) -> None:
    model = build()
    assert names(list_blocks(model)) == [f"model.layers.{i}.{n}" for i in (0, 1) for n in LLAMA] + ["lm_head"]
    chosen = select_blocks(model)
    assert names(chosen) == [f"model.layers.{i}.{n}" for i in (0, 1) for n in LLAMA]
    for block in chosen:
        weight = model.get_submodule(block.name).weight
        assert block.module is model.get_submodule(block.name)
        assert (block.outputs, block.inputs) == tuple(weight.shape)
        assert (block.kind, block.bias, block.parameters) == ("linear", False, weight.numel())
    assert [block.layer for block in chosen] == [0] * 7 + [1] * 7
    assert list_blocks(model)[-1].layer is None


def test_gpt2(build: Build) -> None:
    model = build("gpt2")
    chosen = select_blocks(model)
    assert names(chosen) == [f"transformer.h.{i}.{n}" for i in (0, 1)
                             for n in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")]
    attention = chosen[0]
    assert (attention.kind, attention.inputs, attention.outputs, attention.bias) == ("conv1d", 32, 96, True)
    for block in chosen:
        module = model.get_submodule(block.name)
        assert block.parameters == module.weight.numel() + module.bias.numel()
    with pytest.raises(WhenceError, match=r"lm_head: its weight is also that of transformer.wte"):
        select_blocks(model, ["lm_head"])


def test_a_hook_sees_inputs_and_outputs_of_the_stated_sizes(build: Build) -> None:
    for model in (build(), build("gpt2"), adapt(build())):
        met: dict[nn.Module, tuple[int, int]] = {}

        def hook(module: nn.Module, args: tuple, out: torch.Tensor, met: dict = met) -> None:
            met[module] = (args[0].shape[-1], out.shape[-1])

        for block in select_blocks(model):
            block.module.register_forward_hook(hook)
        model(torch.arange(6)[None])
        assert met == {block.module: (block.inputs, block.outputs) for block in select_blocks(model)}


def test_lora_by_default_and_the_base_on_request(build: Build) -> None:
    model = adapt(build(), lora_dropout=0.5, use_rslora=True)
    chosen = select_blocks(model)
    start = "base_model.model.model.layers"
    assert names(chosen) == [f"{start}.{i}.self_attn.{n}.lora_{m}.default" for i in (0, 1)
                             for n in ("q_proj", "v_proj") for m in "AB"]
    assert [(b.kind, b.inputs, b.outputs, b.bias) for b in chosen[:2]] == [("lora_a", 32, 3, False),
                                                                          ("lora_b", 3, 32, False)]
    trained = sum(p.numel() for n, p in model.named_parameters() if p.requires_grad)
    assert sum(block.parameters for block in chosen) == trained
    base = select_blocks(model, kinds=["linear"])
    assert len(base) == 14 and f"{start}.0.self_attn.q_proj.base_layer" in names(base)
    assert names(select_blocks(model, ["q_proj"])) == [n for n in names(chosen) if "q_proj" in n]
    assert {b.kind for b in select_blocks(model, kinds=["lora_b"])} == {"lora_b"}


def test_lora_on_conv1d_with_a_bias(build: Build) -> None:
    model = adapt(build("gpt2"), target_modules=["c_attn"], fan_in_fan_out=True, lora_bias=True)
    kinds = [(b.kind, b.inputs, b.outputs, b.bias) for b in select_blocks(model)]
    assert kinds == [("lora_a", 32, 3, False), ("lora_b", 3, 96, True)] * 2
    assert sum(b.parameters for b in select_blocks(model)) == sum(p.numel() for p in model.parameters()
                                                                 if p.requires_grad)


def test_only_the_active_adapter_counts(build: Build) -> None:
    model = adapt(build())
    with quiet():
        model.add_adapter("second", model.peft_config["default"])
    assert all(name.endswith(".default") for name in names(select_blocks(model)))
    assert not any("lora_" in name for name in names(select_blocks(model, kinds=["linear"])))
    model.set_adapter("second")
    assert [name.rpartition(".")[2] for name in names(select_blocks(model))] == ["second"] * 8


def test_a_module_to_save_stands_in_for_the_original(build: Build) -> None:
    model = adapt(build(), modules_to_save=["lm_head"])
    heads = [name for name in names(list_blocks(model)) if "lm_head" in name]
    assert heads == ["base_model.model.lm_head.modules_to_save.default"]


def test_dora_is_refused(build: Build) -> None:
    with pytest.raises(WhenceError, match=r"q_proj: its adapter is a DoraLinearVariant .*use_dora=False"):
        list_blocks(adapt(build(), use_dora=True))


def test_an_adapter_without_lora_is_refused(build: Build) -> None:
    with quiet():
        model = get_peft_model(build(), IA3Config(task_type="CAUSAL_LM", target_modules=["k_proj"],
                                                  feedforward_modules=[]))
    with pytest.raises(WhenceError, match="an adapter without LoRA maps"):
        select_blocks(model)
    assert len(select_blocks(model, kinds=["linear"])) == 14


@pytest.mark.parametrize(("patterns", "count"), [
    (["q_proj"], 2), (["self_attn.q_proj"], 2), (["layers.0"], 7), (["*.mlp.*"], 6), (["*_proj"], 14),
    (["lm_head"], 1), (["q_proj", "*.q_proj", "lm_head"], 3), (["model.layers.1.mlp.up_proj"], 1),
    (["*"], 15),
])
def test_patterns(patterns: list[str], count: int, build: Build) -> None:
    chosen = select_blocks(build(), patterns)
    assert len(chosen) == count
    order = names(list_blocks(build()))
    assert names(chosen) == sorted(names(chosen), key=order.index)


def test_nothing_matched_names_the_nearest(build: Build) -> None:
    with pytest.raises(WhenceError, match=r"no block matches 'qproj' among the 15 .*nearest names: q_proj"):
        select_blocks(build(), ["v_proj", "qproj"])
    with pytest.raises(WhenceError, match=r"no block matches 'proj'"):  # a component, not any substring
        select_blocks(build(), ["proj"])
    with pytest.raises(WhenceError, match=r"no block of kind lora_a; met linear"):
        select_blocks(build(), kinds=["lora_a"])
    with pytest.raises(WhenceError, match=r"kind 'lora'; expected one of linear, conv1d, lora_a, lora_b"):
        select_blocks(build(), kinds=["lora"])
    with pytest.raises(WhenceError, match=r"no block of kind .* stands in a transformer layer.*\(0\)"):
        select_blocks(nn.Sequential(nn.Linear(2, 2)))


def test_shared_modules_once_and_shared_weights_refused() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            shared = nn.Linear(2, 3)
            second = nn.ModuleDict({"a": shared, "b": nn.Linear(2, 3)})
            self.layers = nn.ModuleList([nn.ModuleDict({"a": shared}), second])

    net = Net()
    assert names(select_blocks(net)) == ["layers.0.a", "layers.1.b"]
    net.layers[1]["b"].weight = net.layers[0]["a"].weight
    with pytest.raises(WhenceError, match=r"layers.0.a: its weight is also that of layers.1.b"):
        select_blocks(net)


def test_table_has_every_block_and_the_total(build: Build) -> None:
    chosen = select_blocks(build("gpt2"))
    console = Console(width=120)
    with console.capture() as capture:
        console.print(describe_blocks(chosen))
    text = capture.get()
    assert all(block.name in text and f"{block.parameters:,}" in text for block in chosen)
    assert f"8 blocks, {sum(b.parameters for b in chosen):,} parameters" in text


def test_verb(llama_folder: Path, adapter_folder: Path) -> None:
    app = typer.Typer()
    app.command()(verb)
    patterns = ["--pattern", "q_proj", "--pattern", "lm_head"]
    out = CliRunner().invoke(app, [str(llama_folder), *patterns, "--json"])
    assert out.exit_code == 0
    listed = json.loads(out.stdout)
    assert [b["name"] for b in listed["blocks"]] == ["model.layers.0.self_attn.q_proj",
                                                     "model.layers.1.self_attn.q_proj", "lm_head"]
    assert listed["parameters"] == sum(b["parameters"] for b in listed["blocks"])
    assert listed["adapter_hash"] is None
    out = CliRunner().invoke(app, [str(llama_folder), "--adapter", str(adapter_folder), "--kind", "lora_a"])
    assert out.exit_code == 0 and "4 blocks, 384 parameters" in out.stdout
    failed = CliRunner().invoke(app, [str(llama_folder), "--pattern", "nope"])
    assert isinstance(failed.exception, WhenceError)
