"""Small language models made from scratch, for demos and studies: tokenizer, random weights, some English.

Everything is a function of its arguments and its seed: the same call gives the same tokenizer and weights,
and leaves the caller's random state as it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from peft import PeftModel
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import nn
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from whence.base.errors import WhenceError
from whence.base.files import atomic_folder
from whence.base.progress import track
from whence.models.quiet import quiet

EOS, PAD = "<|eos|>", "<|pad|>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
SPECIAL = [EOS, PAD, *ROLES]

# One line a turn; {% generation %} marks what the assistant says (and its end) as the response.
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' }}"
    "{% if message['role'] == 'assistant' %}"
    "{% generation %}{{ message['content'] + eos_token }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '\\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def train_tokenizer(texts: Iterable[str], vocab_size: int = 2048,
                    chat_template: str | None = None) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on `texts`; any text comes back from `decode` unchanged.

    Each digit is a token of its own, so that arithmetic can be learned. There is an end-of-sequence and a
    padding token and one for each chat role; there is no beginning-of-sequence token, because a document is
    told from the one before by that one's end. The vocabulary has at most `vocab_size` tokens, fewer where
    `texts` give no more pairs to merge. `chat_template` defaults to `CHAT_TEMPLATE`.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    least = len(alphabet) + len(SPECIAL)
    if vocab_size < least:
        raise WhenceError(f"vocab_size={vocab_size}; expected at least {least} (bytes and special tokens)")
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                                 pre_tokenizers.ByteLevel(add_prefix_space=False)])
    bpe.decoder = decoders.ByteLevel()
    bpe.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=SPECIAL,
                                                       initial_alphabet=alphabet, show_progress=False))
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, eos_token=EOS, pad_token=PAD, additional_special_tokens=list(ROLES),
        model_input_names=["input_ids", "attention_mask"], clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE if chat_template is None else chat_template)


def build_model(architecture: str, tokenizer: PreTrainedTokenizerBase, *, width: int = 128, layers: int = 2,
                heads: int = 4, mlp: int | None = None, context: int = 512, seed: int = 0) -> PreTrainedModel:
    """A model of random float32 weights on the CPU, in eval mode, without dropout.

    `architecture` is "llama" (rotary positions, gated MLP of width `mlp`, by default 8/3 of `width` rounded
    up to a multiple of 32, output head of its own) or "gpt2" (learned positions, MLP by default 4 x `width`,
    output head tied to the embeddings, biases). `context` is the longest input in tokens.
    """
    if width % heads or width // heads % 2:
        raise WhenceError(f"width={width}, heads={heads}; expected heads of equal, even width")
    ids = {"vocab_size": len(tokenizer), "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id,
           "pad_token_id": tokenizer.pad_token_id}
    config: LlamaConfig | GPT2Config
    if architecture == "llama":
        config = LlamaConfig(hidden_size=width, intermediate_size=mlp or 32 * math.ceil(width * 8 / 3 / 32),
                             num_hidden_layers=layers, num_attention_heads=heads, num_key_value_heads=heads,
                             max_position_embeddings=context, tie_word_embeddings=False, **ids)
    elif architecture == "gpt2":
        config = GPT2Config(n_embd=width, n_inner=mlp or 4 * width, n_layer=layers, n_head=heads,
                            n_positions=context, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, **ids)
    else:
        raise WhenceError(f"architecture {architecture!r}; expected 'llama' or 'gpt2'")
    with quiet(), seeded(seed):
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def pretrain(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, documents: Sequence[str], *,
             steps: int, batch: int = 16, length: int = 128, lr: float = 1e-3, seed: int = 0) -> list[float]:
    """Train `model` in place to continue `documents`; returns the loss of each step, in nats a token.

    The documents, each closed by the end-of-sequence token, make one stream; a step takes `batch` windows of
    `length` predictions from anywhere in it. AdamW, gradient norm clipped at 1, `lr` after a linear warm-up
    over the first tenth of the steps, then a cosine down to a tenth of it. The model comes back in the mode
    (train or eval) in which it came.
    """
    stream = _stream(tokenizer, documents)
    limit = model.config.max_position_embeddings
    if length > limit:
        raise WhenceError(f"length={length}; expected at most {limit}, the model's context")
    if len(stream) <= length:
        raise WhenceError(f"the documents have {len(stream)} tokens; expected more than length={length}")
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine(step, steps))
    draw = torch.Generator().manual_seed(seed)
    mode, losses = model.training, []
    model.train()
    with seeded(seed):  # for models that bring dropout
        for step in track(range(steps), "pretrain", total=steps):
            starts = torch.randint(len(stream) - length, (batch, 1), generator=draw)
            windows = stream[starts + torch.arange(length + 1)].to(model.device)  # [batch, length + 1]
            logits = model(input_ids=windows[:, :-1], use_cache=False).logits
            loss = nn.functional.cross_entropy(logits.flatten(0, 1).float(), windows[:, 1:].flatten())
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            if not math.isfinite(losses[-1]):
                raise WhenceError(f"pretrain: the loss is {losses[-1]} at step {step}/{steps}; lower lr={lr}")
    model.train(mode)
    return losses


def cosine(step: int, steps: int) -> float:
    """Factor on the learning rate: up in a line over steps/10, then half a cosine from 1 down to 0.1.

    >>> [round(cosine(step, 20), 3) for step in (0, 1, 2, 11, 20)]
    [0.5, 1.0, 1.0, 0.55, 0.1]
    """
    warmup = max(1, steps // 10)
    if step < warmup:
        return (step + 1) / warmup
    return 0.55 + 0.45 * math.cos(math.pi * (step - warmup) / max(1, steps - warmup))


def save(model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerBase, folder: str | Path) -> None:
    """Write model and tokenizer into `folder`, atomically, for `load_model` or transformers' Auto classes.

    A model with an adapter is refused: its folder would hold the base under wrapped names.
    """
    if isinstance(model, PeftModel):
        raise WhenceError(f"{folder}: the model has an adapter; store that with models.adapter.save_adapter, "
                          "or merge it first (model.merge_and_unload())")
    with atomic_folder(folder) as part, quiet():
        model.save_pretrained(str(part))
        tokenizer.save_pretrained(str(part))


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Inside, torch's random numbers (CPU and CUDA) follow from `seed`; after, they go on as before."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield


def _stream(tokenizer: PreTrainedTokenizerBase, documents: Sequence[str]) -> torch.Tensor:
    """int64 [tokens]: all documents in order, each closed by the end-of-sequence token."""
    encoded = tokenizer(list(documents), add_special_tokens=False)["input_ids"] if documents else []
    tokens = [token for ids in encoded for token in [*ids, tokenizer.eos_token_id]]
    return torch.tensor(tokens, dtype=torch.int64)
