"""`whence blocks`: what would be attributed, as a table and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.typed import Shell
from whence.run.run import Run


def test_the_default_is_what_a_run_attributes(shell: Shell, base_folder: Path, lora_folder: Path,
                                              full_folder: Path) -> None:
    for words, folder in (((base_folder, "--adapter", lora_folder / "adapter"), lora_folder),
                          ((full_folder / "model",), full_folder)):
        value = json.loads(shell("blocks", *words, "--json").out)
        chosen = Run.load(folder).subject.blocks
        assert [block["name"] for block in value["blocks"]] == [block.name for block in chosen]
        assert value["parameters"] == sum(block.parameters for block in chosen)
        assert all("module" not in block and block["inputs"] > 0 for block in value["blocks"])
    lora = json.loads(shell("blocks", base_folder, "--adapter", lora_folder / "adapter", "--json").out)
    record = Run.load(lora_folder).record["hashes"]
    assert (lora["base_hash"], lora["adapter_hash"]) == (record["base"], record["weights"])


def test_patterns_and_kinds_choose(shell: Shell, base_folder: Path, lora_folder: Path) -> None:
    value = json.loads(shell("blocks", base_folder, "--pattern", "q_proj", "--pattern", "*.up_proj", "--json").out)
    assert [block["name"].rpartition(".")[2] for block in value["blocks"]] == ["q_proj", "up_proj"] * 2
    adapted = (base_folder, "--adapter", lora_folder / "adapter")
    value = json.loads(shell("blocks", *adapted, "--kind", "lora_b", "--json").out)
    assert {block["kind"] for block in value["blocks"]} == {"lora_b"} and len(value["blocks"]) == 4
    assert "the nearest names: q_proj" in shell.refuses("blocks", base_folder, "--pattern", "qproj")
    assert "kind 'lora'; expected one of linear, conv1d, lora_a, lora_b" in shell.refuses(
        "blocks", base_folder, "--kind", "lora")


def test_the_table_ends_with_how_many_there_are(shell: Shell, base_folder: Path) -> None:
    text = shell("blocks", base_folder).out
    assert "14 blocks, 26,624 parameters" in text and "model.layers.1.mlp.down_proj" in text
