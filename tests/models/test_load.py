"""Loading models: round trips, the hub cache, and every way in which it must not succeed."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models.conftest import Build, Tokenizer, logits
from whence.base.errors import WhenceError
from whence.models.build import save, train_tokenizer
from whence.models.corpus import default_documents
from whence.models.identity import model_hash
from whence.models.load import load_model, pick_device


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_round_trip(architecture: str, build: Build, tokenizer: Tokenizer,
                    tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = build(architecture)
    save(model, tokenizer, tmp_path / "m")
    state = torch.get_rng_state()
    loaded = load_model(tmp_path / "m", device="cpu")
    assert torch.equal(torch.get_rng_state(), state)
    assert capfd.readouterr() == ("", "")
    assert torch.equal(logits(loaded.model, loaded.tokenizer), logits(model, tokenizer))
    assert (loaded.path, loaded.adapter, loaded.adapter_hash) == (str(tmp_path / "m"), None, None)
    assert loaded.base_hash == model_hash(model)
    assert not loaded.model.training


def test_a_local_folder_needs_no_network(llama_folder: Path, adapter_folder: Path,
                                         monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"network: {args}")

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    plain, adapted = load_model(llama_folder, device="cpu"), load_model(adapter_folder, device="cpu")
    assert plain.base_hash == adapted.base_hash


def test_a_hub_name_is_found_in_the_cache(llama_folder: Path, tmp_path: Path,
                                          monkeypatch: pytest.MonkeyPatch) -> None:
    cached = tmp_path / "models--someone--tiny"
    shutil.copytree(llama_folder, cached / "snapshots" / "0123")
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text("0123")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    loaded = load_model("someone/tiny", device="cpu")
    assert loaded.path == "someone/tiny"
    assert loaded.base_hash == load_model(llama_folder, device="cpu").base_hash
    with pytest.raises(WhenceError, match="someone/other: no such folder, nor a model from the hub"):
        load_model("someone/other")


def test_device_and_dtype(llama_folder: Path) -> None:
    assert pick_device().type in ("cuda", "mps", "cpu")
    loaded = load_model(llama_folder, dtype=torch.bfloat16)
    assert loaded.model.device.type == pick_device().type
    assert {p.dtype for p in loaded.model.parameters()} == {torch.bfloat16}
    assert loaded.base_hash != load_model(llama_folder, device="cpu").base_hash


@pytest.fixture
def copy(llama_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(llama_folder, tmp_path / "copy"))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("name", ["./not/here", "not/here/either", "/not/here", "no spaces allowed"])
def test_missing_folder(name: str) -> None:
    with pytest.raises(WhenceError, match=f"^{name}: no such folder$"):
        load_model(name)


def test_a_file_is_not_a_folder(llama_folder: Path) -> None:
    with pytest.raises(WhenceError, match=r"config.json: a file; expected the folder"):
        load_model(llama_folder / "config.json")


def test_missing_tokenizer(copy: Path) -> None:
    for path in copy.glob("tokenizer*"):
        path.unlink()
    with pytest.raises(WhenceError, match=f"{copy}: no tokenizer can be loaded"):
        load_model(copy)


def test_tokenizer_of_another_model(copy: Path) -> None:
    train_tokenizer(default_documents()[:3], 350).save_pretrained(copy)
    with pytest.raises(WhenceError, match=r"the tokenizer has 350 tokens, .* has embeddings for 300;"):
        load_model(copy)


def test_missing_pad_token_becomes_the_end_token(copy: Path, tokenizer: Tokenizer) -> None:
    path = copy / "tokenizer_config.json"
    settings = json.loads(path.read_text())
    del settings["pad_token"]
    path.write_text(json.dumps(settings))
    assert load_model(copy, device="cpu").tokenizer.pad_token_id == tokenizer.eos_token_id


def test_nan_in_the_weights(copy: Path) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    change_weights(copy, lambda weights: weights[name].view(-1)[:2].fill_(float("nan")))
    with pytest.raises(WhenceError, match=rf"NaN or infinity in 1 of 21 weights: {name} \(2 of \d+ values\)"):
        load_model(copy)


def test_missing_weight(copy: Path) -> None:
    change_weights(copy, lambda weights: weights.pop("lm_head.weight"))
    with pytest.raises(WhenceError, match=r"1 weights that config.json asks .* lm_head.weight"):
        load_model(copy)


def test_weight_of_another_shape(copy: Path) -> None:
    change_weights(copy, lambda weights: weights.update({"model.norm.weight": torch.ones(31)}))
    with pytest.raises(WhenceError, match=r"norm.weight has shape \(31,\), config.json asks for \(32,\)"):
        load_model(copy)


def test_unused_weight_is_told(copy: Path) -> None:
    change_weights(copy, lambda weights: weights.update({"reward.weight": torch.ones(2)}))
    with pytest.warns(UserWarning, match=r"1 weights in the files have no place .* the first reward.weight"):
        load_model(copy, device="cpu")


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"\xff" * 64), lambda path: path.unlink()])
def test_unreadable_weights(copy: Path, damage: Callable[[Path], object]) -> None:
    damage(copy / "model.safetensors")
    with pytest.raises(WhenceError, match=f"{copy}: not loadable as a causal language model"):
        load_model(copy)


def test_not_a_language_model(copy: Path) -> None:
    (copy / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(WhenceError, match="not loadable as a causal language model"):
        load_model(copy)
