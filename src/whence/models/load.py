"""Load a causal language model of Hugging Face, with or without a PEFT adapter, and say exactly what it is.

Names that are no folder here are hub names: their files are fetched (or found in the cache) first, and from
there on everything is local, so a local folder never causes a network call.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from peft import PeftModel
from safetensors import SafetensorError
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from whence.base.errors import WhenceError
from whence.models.adapter import CONFIG_FILE, attach_adapter, read_config
from whence.models.identity import adapter_hash, model_hash, refuse_nonfinite
from whence.models.quiet import quiet

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
TEXT_FILES = ["*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken"]
COPIES = ["*/*", "consolidated*"]  # the same weights again in other formats (onnx/, original/, ...)


@dataclass(frozen=True)
class Loaded:
    """A model in eval mode with its tokenizer, and the content hashes that say which.

    Attributes:
        model: the base model, or the base model with the adapter.
        tokenizer: the adapter folder's if it has one (what the fine-tune saw), else the base's.
        path, adapter: where base and adapter came from, as they were named.
        base_hash, adapter_hash: content hashes (`models.identity`); the second is None without adapter.
    """

    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    path: str
    adapter: str | None
    base_hash: str
    adapter_hash: str | None


def load_model(path: str | Path, adapter: str | Path | None = None, *, dtype: torch.dtype | None = None,
               device: torch.device | str | None = None) -> Loaded:
    """Load the causal language model at `path` (a folder or a hub name), with `adapter` if one is given.

    `path` may itself be an adapter folder: then its `adapter_config.json` names the base. `dtype` is that of
    the base's weights (default: as stored), `device` defaults to `pick_device()`. A tokenizer without a
    padding token gets its end-of-sequence token for it: padding is masked, so its id never counts. The
    parameters of an adapter come frozen.

    Raises:
        WhenceError: no such folder or hub model; weights unreadable, missing, or of another shape than
            `config.json` says; no tokenizer, or one with more tokens than the model; NaN or infinity in the
            weights; an adapter for another base model (`attach_adapter` says by what that is seen).
    """
    folder = _find(str(path))
    if (folder / CONFIG_FILE).exists():
        if adapter is not None:
            raise WhenceError(f"{path}: already an adapter, so adapter={str(adapter)!r} cannot go on top; "
                              "give the base model as path")
        adapter, path = path, _named_base(folder)
        folder = _find(str(path))
        if (folder / CONFIG_FILE).exists():
            raise WhenceError(f"{adapter}: its base model {path} is an adapter too; merge that one first")
    adapter_folder = None if adapter is None else _find(str(adapter))

    own = adapter_folder if adapter_folder and _has_tokenizer(adapter_folder) else folder
    tokenizer = _load_tokenizer(own)
    base = _load_base(folder, dtype)
    vocabulary = int(base.get_input_embeddings().weight.shape[0])  # type: ignore[index, arg-type]
    if len(tokenizer) > vocabulary:
        raise WhenceError(f"{own}: the tokenizer has {len(tokenizer)} tokens, the model at {path} has "
                          f"embeddings for {vocabulary}; use the tokenizer that it was trained with")
    base_hash = model_hash(base)
    model: PreTrainedModel | PeftModel = base
    own_hash = None
    if adapter_folder is not None:
        model = attach_adapter(base, adapter_folder, base_hash)
        own_hash = adapter_hash(model)
    nn.Module.to(model, torch.device(device) if device is not None else pick_device())
    model.eval()
    return Loaded(model, tokenizer, str(path), None if adapter is None else str(adapter), base_hash, own_hash)


def pick_device() -> torch.device:
    """The fastest device here: cuda, else mps, else cpu."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def _find(name: str) -> Path:
    """The folder of a local path, or of a hub name's files after fetching what is not cached."""
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise WhenceError(f"{name}: a file; expected the folder that holds the model")
    if not HUB_NAME.fullmatch(name):
        raise WhenceError(f"{name}: no such folder")
    try:
        wanted = [*TEXT_FILES, "*.safetensors"]
        folder = Path(snapshot_download(name, allow_patterns=wanted, ignore_patterns=COPIES))
        if not list(folder.glob("*.safetensors")):
            snapshot_download(name, allow_patterns=["*.bin"], ignore_patterns=COPIES)
    except (OSError, ValueError) as error:
        raise WhenceError(f"{name}: no such folder, nor a model from the hub ({_reason(error)})") from None
    return folder


def _named_base(folder: Path) -> str:
    """The base model that an adapter folder names; a relative path may also start from that folder."""
    base = read_config(folder).base_model_name_or_path
    if not base:
        raise WhenceError(f"{folder / CONFIG_FILE}: names no base model (base_model_name_or_path); give the "
                          "base as path and this folder as adapter")
    if not Path(base).is_dir() and (folder / base).is_dir():
        return str(folder / base)
    if not Path(base).is_dir() and not HUB_NAME.fullmatch(base):
        raise WhenceError(f"{folder / CONFIG_FILE}: its base model {base} is not there; give the base as "
                          "path and this folder as adapter")
    return base


def _load_base(folder: Path, dtype: torch.dtype | None) -> PreTrainedModel:
    """The model in `folder`, every weight accounted for: transformers alone draws missing ones at random."""
    try:
        with quiet(), torch.random.fork_rng(devices=[]):
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                str(folder), dtype=dtype or "auto", local_files_only=True, output_loading_info=True,
                ignore_mismatched_sizes=True)
            model, info = loaded
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise WhenceError(f"{folder}: not loadable as a causal language model ({_reason(error)})") from None
    if misfits := sorted(info["mismatched_keys"]):
        name, met, expected = misfits[0]
        raise WhenceError(f"{folder}: {name} has shape {tuple(met)}, config.json asks for {tuple(expected)} "
                          f"({len(misfits)} weights do not fit)")
    if missing := sorted(info["missing_keys"]):
        raise WhenceError(f"{folder}: {len(missing)} weights that config.json asks for are in no file, the "
                          f"first {missing[0]}; is it a causal language model?")
    if unused := sorted(info["unexpected_keys"]):
        warnings.warn(f"{folder}: {len(unused)} weights in the files have no place in the model and are not "
                      f"used, the first {unused[0]}", stacklevel=3)
    refuse_nonfinite(model.state_dict().items(), str(folder))
    return model


def _has_tokenizer(folder: Path) -> bool:
    return (folder / "tokenizer_config.json").exists() or (folder / "tokenizer.json").exists()


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # the tokenizers library raises bare Exception
        raise WhenceError(f"{folder}: no tokenizer can be loaded from it ({_reason(error)}); save one beside "
                          "the model with tokenizer.save_pretrained") from None
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _reason(error: Exception) -> str:
    """The first line of what a library says; what follows is advice for its own users."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
