"""`whence plan` against reality: six configurations, each planned and then really run, each in a process of its own.

    python benchmarks/workload.py runs/workload
    python benchmarks/plan_check.py runs/workload [--threads 2] [--only NAME]... [--cpu-time]

Compared are the time from the first phase to the last (loading, writing of reports left out), the peak of resident
memory, and the bytes of the run's folder. On a machine that others use too, `--threads 1 --cpu-time` plans and
measures CPU seconds instead. Prints a table and writes results/plan-check.json; leaves with 1 where time is off by
more than 25 %, or memory or disk by more than 15 %.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase
from workload import load, rows_to_examples

import whence.curvature.collect
import whence.curvature.fit
import whence.curvature.products
import whence.run.collect
from whence.curvature.fit import Situation
from whence.data.examples import Examples
from whence.methods.catalogue import parse_calls
from whence.models.blocks import select_blocks
from whence.models.build import build_model
from whence.models.quiet import quiet
from whence.plan.make import make_plan
from whence.run.run import Run
from whence.train.record import peak_memory

RESULTS = Path(__file__).parent / "results" / "plan-check.json"
WITHIN = {"seconds": 0.25, "peak": 0.15, "disk": 0.15}
Subject = tuple[nn.Module, PreTrainedTokenizerBase, Examples, Examples]


@dataclass(frozen=True)
class Configuration:
    """A model with rows and queries, and the method that is planned and run."""

    make: Callable[[Path], Subject]
    method: str


def workload(folder: Path, rows: int, queries: int) -> Subject:
    """The first rows and queries of the workload, its GPT-2."""
    model, train, asked = load(folder)
    return model, tokenizer_of(folder), train.select(np.arange(rows)), asked.select(np.arange(queries))


def mixed(folder: Path, rows: int, queries: int, *, width: int, layers: int, rank: int = 0) -> Subject:
    """A llama from scratch, with or without LoRA, on rows of 24 to 384 tokens cut from the workload's text."""
    tokenizer = tokenizer_of(folder)
    model: nn.Module = build_model("llama", tokenizer, width=width, layers=layers, heads=4, context=512)
    if rank:
        torch.manual_seed(0)
        with quiet():
            model = get_peft_model(model, LoraConfig(r=rank, target_modules=["q_proj", "v_proj", "down_proj"])).eval()
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(parameter, std=0.02)
    stream = np.load(folder / "tokens.npz")["train"].reshape(-1)
    lengths = np.random.default_rng(0).integers(24, 385, size=rows + queries)
    starts = np.random.default_rng(1).integers(0, len(stream) - 385, size=rows + queries)
    cut = [stream[start : start + length] for start, length in zip(starts, lengths, strict=True)]
    return model, tokenizer, examples(cut[:rows], "row"), examples(cut[rows:], "query")


def examples(tokens: Sequence[np.ndarray], prefix: str) -> Examples:
    """Rows of tokens, the first third of each a prompt."""
    found = rows_to_examples(np.zeros((len(tokens), 2), dtype=np.int64), prefix)
    masks = tuple(np.arange(len(row)) >= max(1, len(row) // 3) for row in tokens)
    return Examples(found.ids, found.groups, found.prompts, found.responses, tuple(tokens), masks, found.truncated)


def tokenizer_of(folder: Path) -> PreTrainedTokenizerBase:
    """The workload's."""
    return AutoTokenizer.from_pretrained(str(folder / "model"))


CONFIGURATIONS = {
    "gpt2-ekfac-full": Configuration(partial(workload, rows=200, queries=20), "ekfac(rows=-1)"),
    "gpt2-kfac": Configuration(partial(workload, rows=350, queries=30), "kfac(rows=-1)"),
    "gpt2-ekfac-sample": Configuration(partial(workload, rows=600, queries=50), "ekfac(rows=120)"),
    "gpt2-rank": Configuration(partial(workload, rows=250, queries=5), "ekfac(rows=120, rank=32)"),
    "lora-fisher": Configuration(partial(mixed, rows=600, queries=40, width=256, layers=4, rank=8), "fisher"),
    "llama-wide": Configuration(partial(mixed, rows=120, queries=8, width=384, layers=2), "ekfac(rows=80)"),
}


def main() -> None:
    """Plan and run each, and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workload", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", action="append", choices=list(CONFIGURATIONS))
    parser.add_argument("--cpu-time", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--child", choices=("plan", "run"), help=argparse.SUPPRESS)
    parser.add_argument("--choice", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.child:
        clock = time.process_time if args.cpu_time else time.perf_counter
        name = args.only[0]
        print(json.dumps(planned(args, name, clock) if args.child == "plan" else run(args, name, clock)))
        return
    found = {name: compare(args, name) for name in args.only or CONFIGURATIONS}
    machine = {"processor": platform.machine(), "cores": os.cpu_count(), "threads": args.threads,
               "torch": torch.__version__, "clock": "CPU" if args.cpu_time else "wall", "date": str(date.today())}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({"machine": machine, "within": WITHIN, "configurations": found}, indent=1) + "\n")
    bad = [f"{name}: {what}" for name, result in found.items() for what, limit in WITHIN.items()
           if abs(result["off"][what]) > limit]
    print(f"within the bounds: {len(found) * len(WITHIN) - len(bad)} of {len(found) * len(WITHIN)}"
          + "".join(f"\n  beyond: {line}" for line in bad))
    sys.exit(bool(bad))


def compare(args: argparse.Namespace, name: str) -> dict[str, Any]:
    """Plan in one process, run in another with the plan's choices."""
    plan = child(args, name, "plan")
    real = child(args, name, "run", {"batch_tokens": plan["batch_tokens"], "memory": plan["memory"]})
    off = {what: plan[what] / real[what] - 1 for what in WITHIN}
    print(f"{name:20}" + "  ".join(
        f"{what} {plan[what] / scale:8.1f} / {real[what] / scale:8.1f} {unit} {off[what]:+.0%}"
        for what, scale, unit in (("seconds", 1, "s"), ("peak", 2**20, "MiB"), ("disk", 2**20, "MiB")))
        + f"  planned in {plan['calibration']:.0f} s", flush=True)
    for phase in plan["phases"]:
        seconds = real["phases"].get(phase["name"])
        seen = real["peaks"].get(phase["name"])
        print(f"    {phase['name']:34} {phase['seconds']:8.2f} / " + (f"{seconds:8.2f} s" if seconds is not None else
              "       -  ") + f" {phase['memory'] / 2**20:9.0f}" + (f" / {seen / 2**20:8.0f} MiB" if seen else " MiB"),
              flush=True)
    return {"method": CONFIGURATIONS[name].method, "off": off, "plan": plan, "real": real}


def child(args: argparse.Namespace, name: str, what: str, choice: dict[str, Any] | None = None) -> dict[str, Any]:
    """The result of a fresh process."""
    command = [sys.executable, __file__, str(args.workload), "--threads", str(args.threads), "--only", name,
               "--child", what, *(["--cpu-time"] if args.cpu_time else []),
               *(["--choice", json.dumps(choice)] if choice else [])]
    environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads), "WHENCE_PROGRESS": "0"}
    done = subprocess.run(command, stdout=subprocess.PIPE, env=environment, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def planned(args: argparse.Namespace, name: str, clock: Callable[[], float]) -> dict[str, Any]:
    """The plan of a configuration."""
    model, tokenizer, train, queries = CONFIGURATIONS[name].make(args.workload)
    (call,) = parse_calls([CONFIGURATIONS[name].method])
    plan = make_plan(model, train, queries, call, select_blocks(model), pad_id=tokenizer.pad_token_id, clock=clock)
    return plan.to_json()


def run(args: argparse.Namespace, name: str, clock: Callable[[], float]) -> dict[str, Any]:
    """The configuration itself."""
    from whence.sweep.sweep import Layout

    model, tokenizer, train, queries = CONFIGURATIONS[name].make(args.workload)
    spent, peaks = watch(clock)
    with tempfile.TemporaryDirectory() as folder:
        whole = Run(model, tokenizer, train, folder=folder, memory=args.choice["memory"],
                    layout=Layout(args.choice["batch_tokens"]))
        start = clock()
        whole.score(queries, CONFIGURATIONS[name].method)
        seconds = clock() - start
        disk = sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())
    if "solved" in spent:
        spent["solve"] = spent.pop("solved") - spent.pop("fit", 0.0) - spent["gradients of the queries"]
    return {"seconds": seconds, "peak": peak_memory(torch.device("cpu"))["resident_bytes"], "disk": disk,
            "phases": spent, "peaks": peaks}


NAMES = {"gradients of the queries": "gradients of the queries", "sweep over the queries": "gradients of the queries",
         "covariances": "bases", "eigenvalues": "eigenvalues", "scores of the training rows":
         "products with the training rows", "sweep over the training data": "gradients of the training rows",
         "measuring the queries": "measuring the queries"}


def watch(clock: Callable[[], float]) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds and high-water marks of each sweep (and of the whole fit), filled in as the run goes."""
    spent: dict[str, float] = {}
    peaks: dict[str, float] = {}

    def wrapped(function: Callable[..., Any], named: Callable[[dict[str, Any]], str]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            start = clock()
            result = function(*arguments, **options)
            name = named(options)
            spent[name] = spent.get(name, 0.0) + clock() - start
            peaks[name] = peak_memory(torch.device("cpu"))["resident_bytes"]
            return result

        return call

    def of_sweep(options: dict[str, Any]) -> str:
        return next((ours for theirs, ours in NAMES.items() if theirs in options.get("what", "")), "other")

    for module in (whence.curvature.fit, whence.curvature.products, whence.curvature.collect, whence.run.collect):
        module.sweep = wrapped(module.sweep, of_sweep)  # type: ignore[attr-defined]
    whence.curvature.fit.eigenvectors = wrapped(whence.curvature.fit.eigenvectors, lambda _: "eigendecomposition")
    Situation.fit = wrapped(Situation.fit, lambda _: "fit")  # type: ignore[method-assign]
    whence.curvature.products.solve_queries = wrapped(whence.curvature.products.solve_queries, lambda _: "solved")
    return spent, peaks


if __name__ == "__main__":
    main()
