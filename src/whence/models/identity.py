"""What a model is, as a content hash, and whether its weights are numbers at all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from peft import PeftModel, get_base_model_state_dict, get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from whence.base.errors import WhenceError
from whence.base.hashing import hash_tensors


def base_weights(model: nn.Module) -> Mapping[str, Tensor]:
    """Parameters and persistent buffers of the base model under the names they have without an adapter."""
    return get_base_model_state_dict(model) if isinstance(model, PeftModel) else model.state_dict()


def model_hash(model: nn.Module) -> str:
    """Content hash of the base model: names, dtypes, shapes and bytes of `base_weights`.

    An adapter does not enter, so the hash of a model is the same before and after one is attached. The
    dtype does: the same weights in bfloat16 are another model.
    """
    return hash_tensors(base_weights(model).items())


def adapter_hash(model: PeftModel) -> str:
    """Content hash of the active adapter: its weights and, for LoRA, the factor each layer scales them by."""
    name = _active_adapter(model)
    named = list(get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False).items())
    for path, module in model.named_modules():
        if isinstance(module, LoraLayer) and name in module.scaling:
            named.append((f"{path}.scaling", torch.tensor(module.scaling[name], dtype=torch.float64)))
    return hash_tensors(named)


def _active_adapter(model: PeftModel) -> str:
    active = model.active_adapters
    if len(active) != 1:
        raise WhenceError(f"adapters {active} are active together; expected one (model.set_adapter(NAME))")
    return active[0]


def refuse_nonfinite(named: Iterable[tuple[str, Tensor]], where: str) -> None:
    """Raise `WhenceError` if a weight is NaN or infinite, naming `where`, how many and the first three."""
    total, bad = 0, []
    for name, tensor in named:
        total += 1
        if tensor.is_floating_point() and (count := int((~torch.isfinite(tensor)).sum())):
            bad.append(f"{name} ({count} of {tensor.numel()} values)")
    if bad:
        more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
        raise WhenceError(f"{where}: NaN or infinity in {len(bad)} of {total} weights: {', '.join(bad[:3])}"
                          f"{more}; a training run that diverged or a damaged file: use another checkpoint")
