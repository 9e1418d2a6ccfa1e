"""Adapters: round trips, and every sign that one was trained on another base."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file

from tests.models.conftest import Build, Tokenizer, adapt, logits
from whence.base.errors import WhenceError
from whence.models.adapter import adapter_disabled, save_adapter
from whence.models.build import save
from whence.models.identity import adapter_hash, model_hash
from whence.models.load import load_model

Store = Callable[..., Path]
Q_A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"


@pytest.fixture
def store(tokenizer: Tokenizer, tmp_path: Path) -> Callable[..., Path]:
    """Saves an adapter and gives its folder; `strict=False` leaves out the base's hash, as PEFT does."""

    def write(model: PeftModel, base: Path, strict: bool = False) -> Path:
        model.peft_config["default"].base_model_name_or_path = str(base)
        save_adapter(model, tokenizer, tmp_path / "adapter")
        if not strict:
            (tmp_path / "adapter" / "whence.json").unlink()
        return tmp_path / "adapter"

    return write


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / "adapter_model.safetensors")
    change(weights)
    save_file(weights, folder / "adapter_model.safetensors", metadata={"format": "pt"})


def change_config(folder: Path, **values: object) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_round_trip_both_ways(llama_folder: Path, adapter_folder: Path, build: Build,
                              tokenizer: Tokenizer) -> None:
    expected = adapt(build())
    state = torch.get_rng_state()
    named = load_model(adapter_folder, device="cpu")
    given = load_model(llama_folder, adapter_folder, device="cpu")
    assert torch.equal(torch.get_rng_state(), state)
    for loaded in (named, given):
        assert torch.equal(logits(loaded.model, loaded.tokenizer), logits(expected, tokenizer))
        assert (loaded.path, loaded.adapter) == (str(llama_folder), str(adapter_folder))
        assert loaded.base_hash == model_hash(build()) == model_hash(loaded.model)
        assert loaded.adapter_hash == adapter_hash(expected)
        assert not loaded.model.training
        assert not any(p.requires_grad for name, p in loaded.model.named_parameters() if "lora_" in name)


def test_disabled_is_the_base(adapter_folder: Path, build: Build,
                              tokenizer: Tokenizer) -> None:
    base, tuned = build(), load_model(adapter_folder, device="cpu").model
    with adapter_disabled(tuned) as inside:
        assert torch.equal(logits(inside, tokenizer), logits(base, tokenizer))
    assert not torch.allclose(logits(tuned, tokenizer), logits(base, tokenizer))
    assert not any(p.requires_grad for name, p in tuned.named_parameters() if "lora_" in name)  # frozen as before
    with pytest.raises(WhenceError, match="LlamaForCausalLM has no adapter"), adapter_disabled(base):
        pass


def test_base_beside_the_adapter(llama_folder: Path, adapter_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(adapter_folder, tmp_path / "run" / "adapter")
    shutil.copytree(llama_folder, tmp_path / "run" / "base")
    change_config(tmp_path / "run" / "adapter", base_model_name_or_path="../base")
    assert load_model(tmp_path / "run" / "adapter", device="cpu").path.endswith("/run/adapter/../base")


def test_another_width(store: Store, build: Build, llama_folder: Path) -> None:
    folder = store(adapt(build(width=64)), Path("someone/wide"))
    message = rf"{Q_A} has shape \(3, 64\), expected \(3, 32\); the base it names: someone/wide"
    with pytest.raises(WhenceError, match=f"does not fit the base model: {message}"):
        load_model(llama_folder, folder)


def test_other_weights_of_the_same_shape(store: Store, build: Build,
                                         llama_folder: Path) -> None:
    other = build(seed=9)
    folder = store(adapt(other), llama_folder, strict=True)
    met, wanted = model_hash(build()), model_hash(build(seed=9))
    with pytest.raises(WhenceError, match=rf"whence.json: .* hash {wanted}; the one at .*/llama has {met}"):
        load_model(folder)


def test_the_same_base_in_another_dtype(adapter_folder: Path) -> None:
    with pytest.raises(WhenceError, match=r"float32 weights, these are bfloat16: load with dtype=float32"):
        load_model(adapter_folder, dtype=torch.bfloat16)


def test_wrong_target_modules(store: Store, build: Build, llama_folder: Path) -> None:
    folder = store(adapt(build("gpt2"), target_modules=["c_attn"], fan_in_fan_out=True), Path("someone/gpt"))
    with pytest.raises(WhenceError, match=r"does not fit .*c_attn.*; the base it names: someone/gpt"):
        load_model(llama_folder, folder)


def test_more_layers_than_the_base(store: Store, build: Build,
                                   llama_folder: Path) -> None:
    folder = store(adapt(build(layers=3)), llama_folder)
    with pytest.raises(WhenceError, match=r"no place for .*layers.2.self_attn.q_proj.lora_A.weight"):
        load_model(folder)


def test_missing_weight(store: Store, build: Build, llama_folder: Path) -> None:
    folder = store(adapt(build()), llama_folder)
    change_weights(folder, lambda weights: weights.pop(Q_A))
    with pytest.raises(WhenceError, match=f"does not fit the base model: it lacks {Q_A}; the base it names"):
        load_model(folder)


def test_missing_saved_module(store: Store, build: Build, llama_folder: Path) -> None:
    folder = store(adapt(build(), modules_to_save=["lm_head"]), llama_folder)
    assert load_model(folder, device="cpu").base_hash == model_hash(build())
    change_weights(folder, lambda weights: weights.pop("base_model.model.lm_head.weight"))
    with pytest.raises(WhenceError, match=r"does not fit the base model .*lm_head"):
        load_model(folder)


def test_weights_of_the_base_itself(store: Store, build: Build,
                                    llama_folder: Path) -> None:
    folder, rows = store(adapt(build()), llama_folder), build().config.vocab_size
    name = "base_model.model.model.embed_tokens.weight"
    change_weights(folder, lambda weights: weights.update({name: torch.ones(rows, 32)}))
    with pytest.raises(WhenceError, match=rf"holds weights of the base model itself \({name}\)"):
        load_model(folder)


def test_nan_in_the_adapter(store: Store, build: Build, llama_folder: Path) -> None:
    folder = store(adapt(build()), llama_folder)
    change_weights(folder, lambda weights: weights[Q_A].view(-1)[0].fill_(float("nan")))
    with pytest.raises(WhenceError, match=rf"NaN or infinity in 1 of 8 weights: {Q_A} \(1 of 96 values\)"):
        load_model(folder)


@pytest.mark.parametrize(("base", "message"), [
    ("", "names no base model"),
    ("/gone/away", "its base model /gone/away is not there; give the base as path"),
])
def test_base_that_is_not_there(base: str, message: str, adapter_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(adapter_folder, tmp_path / "a"))
    change_config(folder, base_model_name_or_path=base)
    with pytest.raises(WhenceError, match=message):
        load_model(folder)


def test_folders_that_are_no_adapter(llama_folder: Path, adapter_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(WhenceError, match=r"not an adapter folder \(no adapter_config.json\)"):
        load_model(llama_folder, llama_folder)
    with pytest.raises(WhenceError, match="already an adapter"):
        load_model(adapter_folder, adapter_folder)
    folder = Path(shutil.copytree(adapter_folder, tmp_path / "a"))
    change_config(folder, base_model_name_or_path=str(adapter_folder))
    with pytest.raises(WhenceError, match="is an adapter too"):
        load_model(folder)
    (folder / "adapter_config.json").write_text("{")
    with pytest.raises(WhenceError, match=r"adapter_config.json: not valid JSON"):
        load_model(folder)
    (folder / "adapter_config.json").write_text('{"peft_type": "UNHEARD"}')
    with pytest.raises(WhenceError, match="not a configuration that PEFT reads"):
        load_model(folder)


def test_unreadable_adapter_weights(adapter_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(adapter_folder, tmp_path / "a"))
    (folder / "adapter_model.safetensors").write_bytes(b"\xff" * 64)
    with pytest.raises(WhenceError, match=f"{folder}: the adapter's weights cannot be read"):
        load_model(folder)


def test_saved_atomically_with_the_base_hash(build: Build, tokenizer: Tokenizer,
                                             tmp_path: Path) -> None:
    save(build(), tokenizer, tmp_path / "base")
    save_adapter(adapt(build()), tokenizer, tmp_path / "a")
    stored = json.loads((tmp_path / "a" / "whence.json").read_text())
    assert stored == {"base_hash": model_hash(build()), "base_dtype": "float32"}
    loaded = load_model(tmp_path / "base", tmp_path / "a", device="cpu")
    assert loaded.adapter_hash == adapter_hash(adapt(build()))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "base"]
