"""What attribution costs, in epochs: sweep, all methods at five dampings, and per-example loops.

One plain training epoch = forward and backward over the same rows by autograd with every trained weight
getting its gradient, no optimizer, same batches, in the same process. The loops are the methods the way the
published code runs them (one query, one block, one training row at a time) on gradients already collected.

    python benchmarks/cost.py [--train 900] [--queries 100] [--repeats 5]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from whence.curvature.collect import collect_grams, collect_hidden
from whence.curvature.damping import DAMPINGS
from whence.curvature.gram import Gram
from whence.data.batch import collate, plan_batches
from whence.data.encode import encode
from whence.data.examples import Examples
from whence.data.read import read_rows
from whence.methods.catalogue import standard_calls
from whence.methods.evidence import Evidence
from whence.models.adapter import adapter_disabled
from whence.models.blocks import Block, select_blocks
from whence.models.build import build_model, train_tokenizer
from whence.models.corpus import default_documents
from whence.models.quiet import quiet
from whence.sweep.gram import GradientStore
from whence.sweep.hidden import TOKENS, HiddenStates
from whence.sweep.sweep import sweep
from whence.tasks.grammar import grammar_task
from whence.train.record import peak_memory


def epoch(model: nn.Module, data: Examples, trained: Sequence[nn.Parameter]) -> None:
    """Forward and backward over all rows: plain autograd, gradients of the trained weights, no optimizer."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_(True)
        parameter.grad = None
    for rows in plan_batches(data):
        batch = collate(data, rows, 0)
        logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask,
                       position_ids=batch.position_ids, use_cache=False).logits
        F.cross_entropy(logits[:, :-1].flatten(0, 1), batch.labels[:, 1:].flatten(), reduction="sum").backward()


def loops(train: GradientStore, queries: GradientStore, damping: float) -> dict[str, float]:
    """Seconds of each method for ONE query and one damping, looping over blocks and training rows in Python.

    The published structure: for each query and block one loop over the training rows for the product with
    the inverse (LiSSA: one for each of its 10 iterations), then one for the scores.
    """
    seconds = {}
    for name in ("gradient-dot", "datainf", "lissa"):
        start = time.perf_counter()
        for G, V in zip(train.gradients, queries.gradients, strict=True):
            v = V[0]
            x = v.clone()
            if name == "datainf":
                x = torch.zeros_like(v)
                for g in G:
                    x += (v - torch.sum(v * g) / (damping + torch.sum(g * g)) * g) / (len(G) * damping)
            for _ in range(10 if name == "lissa" else 0):
                product = torch.zeros_like(v)
                for g in G:
                    product += (torch.sum(g * x) * g - damping * x) / len(G)
                x = v + x - product / 1e3
            for g in G:
                torch.sum(x * g).item()
        seconds[name] = time.perf_counter() - start
    return seconds


def grams_of(train: GradientStore, queries: GradientStore) -> tuple[Gram, ...]:
    """Gram matrices from gradients already collected: what stands against the loops."""
    grams = []
    for b, block in enumerate(train.blocks):
        cross = (queries.gradients[b] @ train.gradients[b].T).double().numpy()
        grams.append(Gram(block.name, block.parameters, train.gram(b), cross, queries.squared_norms(b)))
    return tuple(grams)


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def make_model(args: argparse.Namespace, vocabulary: PreTrainedTokenizerBase) -> nn.Module:
    """A GPT-2 with random LoRA on its attention, or without (`--rank 0`)."""
    model: nn.Module = build_model("gpt2", vocabulary, width=args.width, layers=args.layers, heads=4)
    if args.rank:
        config = LoraConfig(r=args.rank, lora_alpha=32, target_modules=["c_attn"], fan_in_fan_out=True)
        with quiet():
            model = get_peft_model(model, config).eval()
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(parameter, std=0.02)
    return model


def one_round(model: nn.Module, train: Examples, queries: Examples, blocks: Sequence[Block], pad: int,
              adapted: bool) -> dict[str, float]:
    """Every phase once, in seconds and in epochs of this very round."""
    trained = [p for name, p in model.named_parameters() if not adapted or "lora_" in name]
    calls = [call for call in standard_calls() if adapted or call.options.get("model") != "base"]
    found: dict[str, float] = {"epoch_s": timed(lambda: (epoch(model, train, trained), epoch(model, queries, trained)))}

    start = time.perf_counter()
    hidden = [HiddenStates([(-1, token) for token in TOKENS]) for _ in range(2)]
    swept = collect_grams(model, train, queries, blocks, pad_id=pad, hidden_queries=hidden[0], hidden_train=hidden[1])
    found["sweep"] = (time.perf_counter() - start) / found["epoch_s"]

    start = time.perf_counter()
    states = {("tuned", -1, token): (hidden[0].get(-1, token), hidden[1].get(-1, token)) for token in TOKENS}
    if adapted:
        with adapter_disabled(model):
            base = [collect_hidden(model, rows, [(-1, "last_prompt")], pad) for rows in (queries, train)]
        states["base", -1, "last_prompt"] = (base[0].get(-1, "last_prompt"), base[1].get(-1, "last_prompt"))
    found["base_forward"] = (time.perf_counter() - start) / found["epoch_s"]
    evidence = Evidence(train, queries, swept.grams, states)
    for call in calls:
        call(evidence)
    found["methods"] = (time.perf_counter() - start) / found["epoch_s"]

    stores = [GradientStore(blocks, len(rows)) for rows in (train, queries)]
    for rows, store in zip((train, queries), stores, strict=True):
        sweep(model, rows, blocks, [store], pad_id=pad)
    of_one_query = loops(stores[0], stores[1], 1e-3)
    damped = of_one_query["datainf"] + of_one_query["lissa"]
    looped = len(queries) * (of_one_query["gradient-dot"] + len(DAMPINGS) * damped)
    start = time.perf_counter()
    same = Evidence(train, queries, grams_of(stores[0], stores[1]))
    for call in calls:
        if call.method.name in of_one_query:
            call(same)
    ours = time.perf_counter() - start
    return found | {"loops_s": looped, "same_methods_s": ours, "loops_over_ours": looped / ours}


def main() -> None:
    """Measure, print each round and the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=900)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rank", type=int, default=4, help="of LoRA on the attention; 0 = every block, in full")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    task = grammar_task(train_per_class=args.train // 10, queries_per_class=args.queries // 10)
    tokenizer = train_tokenizer(default_documents(), 2048)
    model = make_model(args, tokenizer)
    train, queries = (encode(read_rows(rows), tokenizer) for rows in (task.train, task.queries))
    blocks = select_blocks(model)
    epoch(model, queries, list(model.parameters()))  # warm-up
    rounds = []
    for _ in range(args.repeats):
        rounds.append(one_round(model, train, queries, blocks, tokenizer.pad_token_id, bool(args.rank)))
        print(json.dumps({name: round(value, 3) for name, value in rounds[-1].items()}), flush=True)
    print(json.dumps({
        "workload": {"train": len(train), "queries": len(queries),
                     "tokens": int(train.lengths.sum() + queries.lengths.sum()),
                     "weights": sum(p.numel() for p in model.parameters()),
                     "attributed": sum(b.parameters for b in blocks), "blocks": len(blocks)},
        "medians": {name: round(statistics.median(r[name] for r in rounds), 3) for name in rounds[0]},
        "rounds": args.repeats, "peak_memory": peak_memory(torch.device("cpu")),
        "machine": {"processor": platform.machine(), "threads": args.threads, "torch": torch.__version__}}, indent=1))


if __name__ == "__main__":
    main()
