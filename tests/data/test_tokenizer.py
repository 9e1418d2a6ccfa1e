"""The tokenizer's content hash: the same after saving and use, another for anything that changes ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from whence.data.tokenizer import tokenizer_hash

from .conftest import CHATML


def test_the_hash_survives_saving_and_use(tokenizer: Any, tmp_path: Path) -> None:
    before = tokenizer_hash(tokenizer)
    tokenizer(["hello", "hello world yes"], padding=True, truncation=True, max_length=2)
    assert tokenizer_hash(tokenizer) == before
    tokenizer.save_pretrained(tmp_path)
    assert tokenizer_hash(AutoTokenizer.from_pretrained(tmp_path)) == before


def test_the_hash_tells_what_changes_ids(make_tokenizer: Any) -> None:
    added = make_tokenizer()
    added.add_tokens(["answer!"])
    variations = [make_tokenizer(), make_tokenizer(CHATML), make_tokenizer(single="<s> $A </s>"),
                  make_tokenizer(eos_token="<|im_end|>"), added]
    assert len({tokenizer_hash(t) for t in variations}) == len(variations)
    assert tokenizer_hash(make_tokenizer()) == tokenizer_hash(variations[0])
