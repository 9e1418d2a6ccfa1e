"""PEFT adapters: attach one to the base model it was trained on and no other, store one, switch one off."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import PeftConfig, PeftModel, get_peft_model_state_dict
from peft.utils.save_and_load import load_peft_weights
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from whence.base.errors import WhenceError
from whence.base.files import atomic_folder, read_json, write_json
from whence.models.identity import model_hash, refuse_nonfinite
from whence.models.quiet import quiet

CONFIG_FILE = "adapter_config.json"
IDENTITY_FILE = "whence.json"


def read_config(folder: Path) -> PeftConfig:
    """The adapter's configuration; a folder that holds none, or a broken one, is a `WhenceError`."""
    if not (folder / CONFIG_FILE).is_file():
        raise WhenceError(f"{folder}: not an adapter folder (no {CONFIG_FILE})")
    read_json(folder / CONFIG_FILE)  # says the line where it is broken
    try:
        with quiet():
            return PeftConfig.from_pretrained(str(folder))
    except (KeyError, TypeError, ValueError) as error:
        raise WhenceError(f"{folder / CONFIG_FILE}: not a configuration that PEFT reads ({error})") from None


def attach_adapter(model: PreTrainedModel, folder: str | Path, base_hash: str | None = None) -> PeftModel:
    """Load the adapter in `folder` onto its base `model`, frozen and in eval mode; `model` itself is changed.

    Refused with a `WhenceError`, as signs of an adapter for another base model: `whence.json` in the folder
    names another base hash; target modules that the model lacks; weights of another shape; weights that the
    adapter lacks (PEFT alone would leave them at their initial values) or has beside those expected. Refused
    too: weights that would overwrite the base's own (`bias="all"`, stored embeddings), since then no base is
    left to compare with, and NaN or infinity. `base_hash` spares computing `model_hash(model)` again.
    """
    folder = Path(folder)
    config = read_config(folder)
    _refuse_other_base(model, folder, base_hash)
    named = f"the base it names: {config.base_model_name_or_path or 'none'}"
    try:
        weights = load_peft_weights(str(folder), device="cpu")
    except (OSError, ValueError, SafetensorError) as error:
        raise WhenceError(f"{folder}: the adapter's weights cannot be read ({error})") from None
    refuse_nonfinite(weights.items(), str(folder))
    # The adapter is drawn at random before its weights are put in: the caller's random state is kept.
    with quiet(), warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # about keys and shapes, which _refuse_misfit holds to more strictly
        try:
            wrapped = PeftModel.from_pretrained(model, str(folder), config=config, torch_device="cpu",
                                                ignore_mismatched_sizes=True)
        except (KeyError, RuntimeError, ValueError) as error:
            raise WhenceError(f"{folder}: does not fit the base model ({error}); {named}") from None
        expected = get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    _refuse_misfit(folder, weights, expected, set(wrapped.state_dict()), named)
    return wrapped.eval()


def save_adapter(model: PeftModel, tokenizer: PreTrainedTokenizerBase, folder: str | Path) -> None:
    """Write adapter, tokenizer and `whence.json` (hash and dtype of the base) into `folder`, atomically."""
    with atomic_folder(folder) as part, quiet():
        model.save_pretrained(str(part), save_embedding_layers=False)
        tokenizer.save_pretrained(str(part))
        write_json(part / IDENTITY_FILE, {"base_hash": model_hash(model), "base_dtype": _dtype(model)})


@contextmanager
def adapter_disabled(model: nn.Module) -> Iterator[nn.Module]:
    """Inside, `model` computes what its base model computes; a model without adapter is a `WhenceError`."""
    if not isinstance(model, PeftModel):
        raise WhenceError(f"{type(model).__name__} has no adapter to switch off; the base model of a full "
                          "fine-tune has to be loaded on its own")
    frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    try:
        with model.disable_adapter():
            yield model
    finally:
        for parameter in frozen:  # on leaving, PEFT makes its adapter trainable, whatever it was
            parameter.requires_grad_(False)


def _refuse_other_base(model: PreTrainedModel, folder: Path, base_hash: str | None) -> None:
    """Compare the base's content hash with the one that `whence.json` recorded, where there is one."""
    path = folder / IDENTITY_FILE
    known = read_json(path) if path.exists() else {}
    if "base_hash" not in known:
        return
    met = base_hash or model_hash(model)
    if met != known["base_hash"]:
        wanted = known.get("base_dtype", _dtype(model))
        advice = (f"it was trained on {wanted} weights, these are {_dtype(model)}: load with dtype={wanted}"
                  if wanted != _dtype(model) else "load the base model that it was trained on")
        raise WhenceError(f"{path}: the adapter was trained on the base model with hash "
                          f"{known['base_hash']}; the one at {model.name_or_path or '(memory)'} has {met}; "
                          f"{advice}")


def _refuse_misfit(folder: Path, weights: dict[str, Tensor], expected: dict[str, Tensor], in_model: set[str],
                   named: str) -> None:
    """Compare names and shapes of the stored `weights` with those the wrapped model has places for."""
    start = f"{folder}: does not fit the base model"
    for name, tensor in weights.items():
        if name in expected and tensor.shape != expected[name].shape:
            raise WhenceError(f"{start}: {name} has shape {tuple(tensor.shape)}, expected "
                              f"{tuple(expected[name].shape)}; {named}")
    # Stored names leave out the adapter's name, so a name that the model has too is one of the base's.
    if overwrites := sorted(in_model.intersection(weights)):
        raise WhenceError(f"{folder}: holds weights of the base model itself ({_first(overwrites)}), which "
                          "would overwrite the base; merge them into the base, or train with bias='none' and "
                          "modules_to_save")
    if missing := sorted(set(expected) - set(weights)):
        raise WhenceError(f"{start}: it lacks {_first(missing)}; {named}")
    if unexpected := sorted(set(weights) - set(expected)):
        raise WhenceError(f"{start}: no place for {_first(unexpected)}; {named}")


def _first(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _dtype(model: nn.Module) -> str:
    return str(model.dtype).removeprefix("torch.")
