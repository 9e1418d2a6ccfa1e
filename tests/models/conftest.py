"""A tokenizer and small saved models that the tests of this room share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from whence.models.adapter import save_adapter
from whence.models.build import build_model, save, seeded, train_tokenizer
from whence.models.quiet import quiet

Build = Callable[..., PreTrainedModel]
Tokenizer = PreTrainedTokenizerFast

TEXTS = ["The quick brown fox counts 12 + 34 = 46 and then 7 more.", "def add(a, b):\n    return a + b\n"] * 4


@pytest.fixture(scope="package")
def tokenizer() -> Tokenizer:
    return train_tokenizer(TEXTS, vocab_size=300)


@pytest.fixture(scope="package")
def build(tokenizer: Tokenizer) -> Build:
    """Builds a model of width 32 and context 64 unless told otherwise."""

    def make(architecture: str = "llama", width: int = 32, seed: int = 0, layers: int = 2) -> PreTrainedModel:
        return build_model(architecture, tokenizer, width=width, layers=layers, context=64, seed=seed)

    return make


@pytest.fixture(scope="package")
def llama_folder(build: Build, tokenizer: Tokenizer,
                 tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "llama"
    save(build(), tokenizer, folder)
    return folder


def adapt(model: PreTrainedModel, seed: int = 1, **settings: object) -> PeftModel:
    """`model` with a LoRA adapter whose two matrices are both random, so that it changes the output."""
    wanted: dict = {"r": 3, "lora_alpha": 6, "target_modules": ["q_proj", "v_proj"], "task_type": "CAUSAL_LM"}
    with seeded(seed), quiet():
        wrapped = get_peft_model(model, LoraConfig(**(wanted | settings)))
        for name, parameter in wrapped.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.3)
    return wrapped.eval()


@pytest.fixture(scope="package")
def adapter_folder(llama_folder: Path, build: Build, tokenizer: Tokenizer) -> Path:
    """An adapter on the model in `llama_folder`, which it names as its base."""
    folder = llama_folder.with_name("adapter")
    wrapped = adapt(build())
    wrapped.peft_config["default"].base_model_name_or_path = str(llama_folder)
    save_adapter(wrapped, tokenizer, folder)
    return folder


@torch.no_grad()
def logits(model: torch.nn.Module, tokenizer: Tokenizer) -> torch.Tensor:
    return model(**tokenizer("The fox counts 12 + 7.", return_tensors="pt")).logits
