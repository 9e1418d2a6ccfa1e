"""The workload of the speed and truth benchmarks: a small GPT-2 and 2,050 sequences of text that is on every machine.

GPT-2 architecture, 4 layers, width 256, 4 heads, byte-level BPE of 2,048 tokens, 3.7 M parameters, made from
scratch. The text is Python's own documentation and docstrings: 50 documents give 10 training sequences of 128
tokens and one query each (these 500 rows are the set for retraining), others fill up to 2,000 rows, and what is
left is what the model is pretrained on. Nothing is downloaded; the same Python gives the same bits.

    python benchmarks/workload.py runs/workload      about 5 minutes on 2 quiet cores

leaves in the folder, for us and for every peer alike (they need no whence to read it):

    tokens.npz       train int64 [2000, 128], queries int64 [50, 128], document of each row
    base/            the pretrained model
    model/           the same, trained on the 2,000 rows
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerBase

from whence.base.progress import track
from whence.data.examples import Examples
from whence.models.build import build_model, cosine, pretrain, save, train_tokenizer
from whence.models.corpus import default_documents, stdlib_docstrings

LENGTH, ROWS, DOCUMENTS, CHUNKS = 128, 2000, 50, 10
LDS_ROWS = DOCUMENTS * CHUNKS  # the first rows of `train`


def build(folder: Path, seed: int = 0) -> None:
    """Make the workload in `folder`; what is already there is left alone."""
    if (folder / "model" / "config.json").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    texts = [*stdlib_docstrings(), *default_documents()]
    tokenizer = train_tokenizer(texts, 2048)
    split, rest = _split(tokenizer, texts)
    np.savez(folder / "tokens.npz", **split)
    model = build_model("gpt2", tokenizer, width=256, layers=4, heads=4, context=LENGTH, seed=seed)
    losses = pretrain(model, tokenizer, rest, steps=300, batch=16, length=LENGTH - 1, lr=2e-3, seed=seed)
    print(f"pretrained: {losses[0]:.2f} -> {np.mean(losses[-20:]):.2f} nats a token")
    save(model, tokenizer, folder / "base")
    order = np.concatenate([np.random.default_rng(seed + e).permutation(ROWS) for e in range(2)])
    losses = fine_tune(model, split["train"], order, batch=16, lr=5e-4)
    print(f"trained on the {ROWS} rows: {np.mean(losses[:20]):.2f} -> {np.mean(losses[-20:]):.2f} nats a token")
    save(model, tokenizer, folder / "model")


def fine_tune(model: PreTrainedModel, tokens: np.ndarray, order: np.ndarray, *, batch: int, lr: float,
              kept: np.ndarray | None = None, what: str = "train") -> list[float]:
    """AdamW over `order`, `batch` rows a step; rows that are not `kept` weigh nothing, and nothing else changes.

    The loss of a step is the sum over kept tokens over the number of tokens of the *whole* batch, so that every
    member of a bank has the same schedule and a row's weight is 1 or 0: what influence functions predict. Rows that
    weigh nothing are not run (but one, of a batch of nothing else, whose step still turns the optimizer's state).
    Returns the loss of each step, over the rows that were run.
    """
    weights = torch.ones(len(tokens)) if kept is None else torch.from_numpy(kept).float()
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0.01)
    steps = len(order) // batch
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: cosine(step, steps))
    losses = []
    model.train()  # no dropout anywhere in this architecture as built
    for step in track(range(steps), what, total=steps):
        rows = order[step * batch : (step + 1) * batch]
        rows = rows[weights[rows].numpy() > 0] if weights[rows].any() else rows[:1]
        ids, weight = torch.from_numpy(tokens[rows]), weights[rows]
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        tokenwise = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none").view(len(ids), -1)
        loss = (tokenwise * weight[:, None]).sum() / (batch * tokenwise.shape[1])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(float(tokenwise.detach().mean()))
    model.eval()
    return losses


def load(folder: Path, which: str = "model") -> tuple[PreTrainedModel, Examples, Examples]:
    """Model, the 2,000 training rows and the 50 queries, in whence's terms."""
    arrays = np.load(folder / "tokens.npz")
    model = AutoModelForCausalLM.from_pretrained(str(folder / which)).eval()
    return model, rows_to_examples(arrays["train"], "row"), rows_to_examples(arrays["queries"], "query")


def rows_to_examples(tokens: np.ndarray, prefix: str, texts: list[str] | None = None) -> Examples:
    """Whole rows of tokens, each predicted but the first."""
    count = len(tokens)
    counted = np.arange(tokens.shape[1]) > 0
    return Examples(ids=tuple(f"{prefix}{i}" for i in range(count)), groups=(None,) * count, prompts=("",) * count,
                    responses=tuple(texts or [""] * count), tokens=tuple(tokens), is_response=(counted,) * count,
                    truncated=(False,) * count)


def _split(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Rows and queries as above, and the texts that neither came from."""
    chunks = []
    for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]:
        whole = len(ids) // LENGTH
        chunks.append(np.array(ids[: whole * LENGTH], dtype=np.int64).reshape(whole, LENGTH))
    long = [d for d, rows in enumerate(chunks) if len(rows) > CHUNKS]
    asked, others = long[:: len(long) // DOCUMENTS][:DOCUMENTS], []
    train = [(d, row) for d in asked for row in np.delete(chunks[d][: CHUNKS + 1], CHUNKS // 2, axis=0)]
    queries = [(d, chunks[d][CHUNKS // 2]) for d in asked]
    for d in (d for d in long if d not in asked):
        if len(train) + len(others) < ROWS:
            others += [(d, row) for row in chunks[d][: 3 * CHUNKS]]
    train = (train + others)[:ROWS]
    if len(train) < ROWS:
        raise SystemExit(f"the text of this Python gives {len(train)} rows, {ROWS} are wanted")
    used = {d for d, _ in train}
    split = {"train": np.stack([row for _, row in train]), "train_document": np.array([d for d, _ in train]),
             "queries": np.stack([row for _, row in queries]), "query_document": np.array([d for d, _ in queries])}
    return split, [text for d, text in enumerate(texts) if d not in used]


if __name__ == "__main__":
    start = time.perf_counter()
    build(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/workload"))
    print(f"{time.perf_counter() - start:.0f} s")
