"""A bank of LoRA fine-tunes against a plain loop of one Trainer-style run after another.

    python benchmarks/bank.py [--members 64] [--loop-members 64] [--threads 2]

The same members either way: random halves of the rows of the synthetic grammar task, rank-4 adapters on the attention
of a small model made from scratch, the run's own batch order, start and schedule. The loop is what a user would write
with transformers and peft: load the base, add adapters, for each batch pad to its longest row and call
`model(input_ids, labels=...)`, AdamW; with all threads. The bank runs a process a thread. Losses of both are compared
step by step. Prints and writes results/bank.json: seconds a member, the ratio, peak memory (the loop's process; all
processes of the bank together).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import threading
import time
from datetime import date
from pathlib import Path

import numpy as np
import psutil
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

import whence
from whence.data.batch import collate
from whence.data.encode import encode
from whence.data.examples import Examples
from whence.data.read import read_rows
from whence.models.build import build_model, save, seeded, train_tokenizer
from whence.models.load import load_model
from whence.tasks.synthetic import make_task
from whence.train.plan import plan_steps, stream_seed
from whence.truth.bank import Bank
from whence.truth.subsets import Subset, random_subsets

RESULTS = Path(__file__).parent / "results" / "bank.json"
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj")


def loop_member(base: Path, rows: Examples, recipe: whence.Recipe, subset: Subset, pad: int) -> list[float]:
    """One fine-tune as a user of transformers and peft would write it; the loss of every step."""
    model = AutoModelForCausalLM.from_pretrained(str(base), dtype=torch.float32)
    with seeded(stream_seed(recipe.seed, 0)):
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", r=recipe.rank, lora_alpha=recipe.alpha,
                                                 target_modules=list(TARGETS)))
    model.train()
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=recipe.learning_rate, betas=recipe.betas, eps=recipe.eps, weight_decay=0)
    losses = []
    for step in plan_steps(len(rows), recipe):
        kept = step.rows[subset.kept[step.rows]]
        if not len(kept):
            continue
        batch = collate(rows, kept, pad)
        loss = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, recipe.clip_norm or float("inf"))
        for group in optimizer.param_groups:
            group["lr"] = step.learning_rate
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


class Watch:
    """Peak resident bytes of this process and its children, while open."""

    def __enter__(self) -> Watch:
        self.peak, self._done = 0, threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def _look(self) -> None:
        me = psutil.Process()
        while not self._done.wait(0.1):
            held = 0
            for process in (me, *me.children(recursive=True)):
                try:
                    held += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.peak = max(self.peak, held)

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def main() -> None:
    """Both ways, compared."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=64)
    parser.add_argument("--loop-members", type=int, help="of the loop, whose time is then scaled; default all")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    task = make_task("grammar")
    with tempfile.TemporaryDirectory() as place:
        base = Path(place) / "base"
        tokenizer = train_tokenizer([row["prompt"] + row["completion"] for row in task.train], 600)
        model = build_model("llama", tokenizer, width=args.width, layers=args.layers, heads=4, context=256)
        save(model, tokenizer, base)
        train, queries = (encode(read_rows(rows), tokenizer) for rows in (task.train, task.queries))
        recipe = whence.Recipe(rank=4, alpha=8, targets=TARGETS, epochs=args.epochs, batch_size=16, learning_rate=1e-3)
        subsets = random_subsets(len(train), args.members)
        some = subsets[: args.loop_members or args.members]
        pad = tokenizer.pad_token_id or 0
        loop_member(base, train, recipe, some[0], pad)  # warm-up
        with Watch() as of_loop:
            start = time.perf_counter()
            losses = [loop_member(base, train, recipe, subset, pad) for subset in some]
            loop = (time.perf_counter() - start) / len(some)
        bank = Bank(Path(place) / "bank", base, load_model(base).base_hash, train, recipe)
        with Watch() as of_bank:
            start = time.perf_counter()
            bank.outcomes(subsets, queries, workers=args.threads, threads=1)
            ours = (time.perf_counter() - start) / len(subsets)
        off = max(float(np.abs(bank.losses(subset) - found).max()) for subset, found in zip(some, losses, strict=True))
    found = {"rows": len(train), "queries": len(queries), "members": len(subsets), "loop_members": len(some),
             "steps": len(losses[0]), "loop_seconds": loop, "bank_seconds": ours, "ratio": loop / ours,
             "largest_loss_difference": off, "loop_peak_bytes": of_loop.peak, "bank_peak_bytes": of_bank.peak,
             "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "threads": args.threads,
                         "torch": torch.__version__, "date": str(date.today())}}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{len(train)} rows, {len(losses[0])} steps: loop {loop:.2f} s a member (without measuring queries), bank "
          f"{ours:.2f} s with it; {loop / ours:.2f} x; losses differ by {off:.1e} at most; peak "
          f"{of_loop.peak / 1e9:.2f} GB against {of_bank.peak / 1e9:.2f} GB")


if __name__ == "__main__":
    main()
