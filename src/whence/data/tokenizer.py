"""What a tokenizer must be, and its content hash."""

from __future__ import annotations

import json

from transformers import PreTrainedTokenizerBase

from whence.base.errors import WhenceError
from whence.base.hashing import hash_json


def require_fast(tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a tokenizer written in Python: it cannot say which characters a token covers."""
    if not tokenizer.is_fast:
        raise WhenceError(f"{type(tokenizer).__name__} is a slow tokenizer, which gives no character "
                          f"offsets; load a fast one, such as PreTrainedTokenizerFast from a tokenizer.json")


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash of all that decides which ids a text becomes.

    That is vocabulary, merges, rules, special tokens and chat template. Padding and truncation are left out:
    they are the state of the last call, not part of the tokenizer.
    """
    require_fast(tokenizer)
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    del backend["padding"], backend["truncation"]
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    return hash_json({"backend": backend, "special": special, "chat_template": tokenizer.chat_template})
