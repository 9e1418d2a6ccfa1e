"""Small models and random examples, and gradients of one example at a time: the oracle of the sweep."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn import functional as F
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from whence.data.examples import Examples

VOCAB = 61


def llama(seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Module:
    """Two layers, width 16."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = LlamaConfig(vocab_size=VOCAB, hidden_size=16, intermediate_size=24, num_hidden_layers=2,
                             num_attention_heads=2, num_key_value_heads=2, max_position_embeddings=64)
        return LlamaForCausalLM(config).to(dtype).eval()


def gpt2(seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Module:
    """Two layers, width 16, with biases and Conv1D blocks."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = GPT2Config(vocab_size=VOCAB, n_embd=16, n_layer=2, n_head=2, n_positions=64, resid_pdrop=0.0,
                            embd_pdrop=0.0, attn_pdrop=0.0)
        return GPT2LMHeadModel(config).to(dtype).eval()


def lora(seed: int = 0, dtype: torch.dtype = torch.float64, dropout: float = 0.1) -> nn.Module:
    """`llama` with adapters on q and v, both matrices random so that every gradient is alive."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        config = LoraConfig(r=3, lora_alpha=6, lora_dropout=dropout, target_modules=["q_proj", "v_proj"])
        model = get_peft_model(llama(seed, dtype), config)
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                nn.init.normal_(parameter, std=0.3)
        return model.to(dtype).eval()


def examples(count: int, seed: int = 0, shortest: int = 3, longest: int = 12, prefix: str = "row") -> Examples:
    """Random tokens of mixed length; the counted part starts at a random place."""
    rng = np.random.default_rng(seed)
    tokens, masks = [], []
    for _ in range(count):
        length = int(rng.integers(shortest, longest + 1))
        tokens.append(rng.integers(0, VOCAB, size=length))
        masks.append(np.arange(length) >= rng.integers(1, length))
    return Examples(ids=tuple(f"{prefix}{i}" for i in range(count)),
                    groups=tuple("ab"[i % 2] for i in range(count)),
                    prompts=tuple(f"prompt {i}" for i in range(count)),
                    responses=tuple(f"response {i}" for i in range(count)),
                    tokens=tuple(tokens), is_response=tuple(masks), truncated=(False,) * count)


def log_prob(model: nn.Module, data: Examples, row: int) -> torch.Tensor:
    """Summed log-probability of the counted tokens of one example, alone and unpadded."""
    tokens = torch.from_numpy(data.tokens[row])[None]
    logits = model(input_ids=tokens).logits[0, :-1]
    kept = torch.from_numpy(data.is_response[row])[1:]
    return -F.cross_entropy(logits[kept], tokens[0, 1:][kept], reduction="sum")


def gradients(model: nn.Module, data: Examples, block_names: Sequence[str]) -> list[torch.Tensor]:
    """One [N, P] matrix a block, by autograd on its parameters, one example at a time."""
    modules = dict(model.named_modules())
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    rows: list[list[torch.Tensor]] = [[] for _ in block_names]
    for i in range(len(data)):
        model.zero_grad(set_to_none=True)
        log_prob(model, data, i).backward()
        for place, name in zip(rows, block_names, strict=True):
            module = modules[name]
            weight = module.weight.grad
            weight = weight.T if type(module).__name__ == "Conv1D" else weight  # stored [in, out]
            parts = [weight.reshape(-1)]
            if module.bias is not None:
                parts.append(module.bias.grad)
            place.append(torch.cat(parts).clone())
    model.zero_grad(set_to_none=True)
    return [torch.stack(place) for place in rows]
