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

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn import functional as F

from whence.curvature.collect import collect_grams
from whence.data.batch import collate, plan_batches
from whence.data.encode import encode
from whence.data.examples import Examples
from whence.data.read import read_rows
from whence.methods.catalogue import standard_calls
from whence.methods.evidence import Evidence
from whence.models.blocks import Block, select_blocks
from whence.models.build import build_model, train_tokenizer
from whence.models.corpus import default_documents
from whence.models.quiet import quiet
from whence.sweep.gram import GradientStore
from whence.sweep.hidden import HiddenStates
from whence.sweep.sweep import Layout, sweep
from whence.tasks.grammar import grammar_task


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


def loops(store: GradientStore, queries: GradientStore, block: int, damping: float, some: int) -> float:
    """Seconds for DataInf, LiSSA (10 iterations) and gradient dot of one query over `some` training rows a product.

    The published structure: for each query and block a Python loop over training rows for the inverse-vector
    product, then one over training rows for the scores. Measured on `some` rows and scaled up by the caller.
    """
    G, v = store.gradients[block], queries.gradients[block][0]
    start = time.perf_counter()
    hvp = torch.zeros_like(v)
    for i in range(some):  # DataInf
        g = G[i]
        c = torch.sum(v * g) / (damping + torch.sum(g * g))
        hvp += (v - c * g) / (some * damping)
    running = v.clone()
    for _ in range(10):  # LiSSA
        acc = torch.zeros_like(v)
        for i in range(some):
            g = G[i]
            acc += (torch.sum(g * running) * g - damping * running) / some
        running = v + running - acc / 1e3
    for vector in (hvp, running, v):  # scores of DataInf, LiSSA and gradient dot
        for i in range(some):
            float(torch.sum(vector * G[i]))
    return time.perf_counter() - start


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=900)
    parser.add_argument("--queries", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rank", type=int, default=4, help="of LoRA on q and v, as published; 0 = all full blocks")
    args = parser.parse_args()
    torch.set_num_threads(2)
    per_class, per_query = args.train // 10, args.queries // 10
    task = grammar_task(train_per_class=per_class, queries_per_class=per_query)
    tokenizer = train_tokenizer(default_documents(), 2048)
    model: nn.Module = build_model("gpt2", tokenizer, width=args.width, layers=args.layers, heads=4)
    if args.rank:
        with quiet():
            model = get_peft_model(model, LoraConfig(r=args.rank, lora_alpha=32, target_modules=["c_attn"],
                                                     fan_in_fan_out=True)).eval()
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(parameter, std=0.02)
    train, queries = (encode(read_rows(rows), tokenizer) for rows in (task.train, task.queries))
    blocks = select_blocks(model)
    # A plain training epoch gives gradients to what is trained: the adapter, or every weight.
    trained = [p for name, p in model.named_parameters() if not args.rank or "lora_" in name]
    everything = Examples(*(getattr(train, f) + getattr(queries, f) for f in vars(train) if f in
                            ("ids", "groups", "prompts", "responses", "tokens", "is_response", "truncated")))
    pad = tokenizer.pad_token_id
    calls = [call for call in standard_calls() if args.rank or call.options.get("model") != "base"]
    keys = [("last_prompt"), ("last_response"), ("mean")]
    ratios: dict[str, list[float]] = {name: [] for name in ("epoch_s", "sweep", "methods", "base_forward", "loops_per_methods")}
    epoch(model, train, trained)  # warm-up
    for repeat in range(args.repeats):
        one_epoch = timed(lambda: epoch(model, everything, trained))
        hidden = [HiddenStates([(-1, token) for token in keys]) for _ in range(2)]
        start = time.perf_counter()
        found = collect_grams(model, train, queries, blocks, pad_id=pad, hidden_queries=hidden[0], hidden_train=hidden[1])
        sweep_s = time.perf_counter() - start
        states = {("tuned", -1, token): (hidden[0].get(-1, token), hidden[1].get(-1, token)) for token in keys}
        base_s = 0.0
        if args.rank:
            from whence.curvature.collect import collect_hidden
            start = time.perf_counter()
            with model.disable_adapter():
                of = [collect_hidden(model, rows, [(-1, "last_prompt")], pad) for rows in (queries, train)]
            base_s = time.perf_counter() - start
            states["base", -1, "last_prompt"] = (of[0].get(-1, "last_prompt"), of[1].get(-1, "last_prompt"))
        evidence = Evidence(train, queries, found.grams, states)
        methods_s = timed(lambda: [call(evidence) for call in calls])
        ratios["epoch_s"].append(one_epoch)
        ratios["sweep"].append(sweep_s / one_epoch)
        ratios["methods"].append((methods_s + base_s) / one_epoch)
        ratios["base_forward"].append(base_s / one_epoch)
        # The loops: gradients kept, one query through every block, on a tenth of the rows, scaled to all.
        stores = [GradientStore(blocks, len(rows)) for rows in (train, queries)]
        for rows, store in zip((train, queries), stores, strict=True):
            sweep(model, rows, blocks, [store], pad_id=pad)
        some = max(1, len(train) // 10)
        per_pass = sum(loops(stores[0], stores[1], b, 1e-3, some) for b in range(len(blocks)))
        loops_s = per_pass * (len(train) / some) * len(queries) * 5  # five dampings
        ours = timed(lambda: [call(Evidence(train, queries, tuple(
            type(g)(g.name, g.parameters, g.train, g.cross, g.query_norms) for g in found.grams)))
            for call in calls if call.method.name in ("datainf", "lissa", "gradient-dot")])
        ratios["loops_per_methods"].append(loops_s / ours)
        print(json.dumps({name: round(values[-1], 3) for name, values in ratios.items()}), flush=True)
    medians = {name: round(statistics.median(values), 3) for name, values in ratios.items()}
    print(json.dumps({
        "workload": {"train": len(train), "queries": len(queries), "tokens": int(everything.lengths.sum()),
                     "parameters": sum(p.numel() for p in model.parameters()),
                     "attributed": sum(b.parameters for b in blocks), "blocks": len(blocks), "methods": len(calls)},
        "medians": medians, "repeats": args.repeats,
        "machine": {"processor": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__}},
        indent=1))


if __name__ == "__main__":
    main()
