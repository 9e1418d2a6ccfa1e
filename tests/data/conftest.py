"""A small byte-level BPE tokenizer, plain and in the variations that encoding must get right."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

MakeTokenizer = Callable[..., PreTrainedTokenizerFast]
CORPUS = ["oh hello world, the answer is yes", "the question is whether the answer is no",
          "user assistant system"]

CHATML = ("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
          "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")
CHATML_GENERATION = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}"
    "{{ m.content }}<|im_end|>{% endgeneration %}{% else %}{{ m.content }}<|im_end|>{% endif %}\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}")


@pytest.fixture(scope="session")
def backend() -> str:
    """The tokenizer as JSON, trained on three sentences; every byte is in the vocabulary."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(CORPUS * 4, trainers.BpeTrainer(
        vocab_size=340, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
        special_tokens=["<s>", "</s>", "<pad>", "<|im_start|>", "<|im_end|>"]))
    return tokenizer.to_str()


@pytest.fixture(scope="session")
def make_tokenizer(backend: str) -> MakeTokenizer:
    """`make_tokenizer(single="<s> $A </s>")`: the same vocabulary with other additions around a text."""

    def make(chat_template: str | None = None, single: str = "<s> $A", trim: bool = False,
             **special: str | None) -> PreTrainedTokenizerFast:
        tokenizer = Tokenizer.from_str(backend)
        around = processors.TemplateProcessing(single=single, special_tokens=[("<s>", 0), ("</s>", 1)])
        tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=trim), around])
        named = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"} | special
        return PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=chat_template,
                                       **{name: token for name, token in named.items() if token is not None})

    return make


@pytest.fixture
def tokenizer(make_tokenizer: MakeTokenizer) -> PreTrainedTokenizerFast:
    """Adds BOS, not EOS; no chat template."""
    return make_tokenizer()


@pytest.fixture(scope="session")
def forgetful() -> PreTrainedTokenizerFast:
    """A tokenizer that makes nothing of what is not in its vocabulary of three words."""
    tokenizer = Tokenizer(models.BPE({"a": 0, "b": 1, "</s>": 2}, []))
    tokenizer.add_special_tokens([AddedToken("</s>", special=True)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>")
