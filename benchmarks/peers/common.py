"""What every peer script shares: its arguments, the workload, the epoch it is measured in, and the form of its result.

Imports nothing of whence, so that it runs in any peer's environment. A peer script defines

    def attribute(job: Job) -> tuple[np.ndarray, dict]     scores [Q, N] and the settings it ran with

and ends with `run("name", attribute, ...)`, which loads, times an epoch, calls `attribute`, reads the process's
peak memory, times an epoch again, and writes to --out

    scores.npy     float32 [Q, N]: see SIGN
    meta.json      what the scores are
    result.json    seconds of each phase, of the epochs, peak memory, disk, versions

A method that raises is a result too: `failed` in result.json has the first line of the error.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import resource
import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers import AutoModelForCausalLM
from transformers.pytorch_utils import Conv1D

EPOCH_BATCH = 32  # rows
BLOCKS = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")  # of each layer
SIGN = ("scores[q, i] > 0: one more copy of training row i raises the log-probability of query q. The value is"
        " grad f(q) . C^-1 grad f(i) with f the summed log-probability of a row's 127 predicted tokens; divide by N for"
        " the change in nats")


@dataclass
class Job:
    """One run: what to attribute and the clock."""

    args: argparse.Namespace
    folder: Path  # of the model
    train: np.ndarray  # int64 [N, 128]
    queries: np.ndarray  # int64 [Q, 128]
    scratch: Path  # what the peer writes; measured, then removed
    seconds: dict[str, float] = field(default_factory=dict)
    cpu_seconds: dict[str, float] = field(default_factory=dict)  # of all threads: steadier on a busy machine

    def load(self) -> nn.Module:
        """A fresh copy of the model, float32, eval."""
        return AutoModelForCausalLM.from_pretrained(str(self.folder), dtype=torch.float32).eval()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Seconds of `fit` and `score` (which count) or `load` (which does not), added up over repeated use."""
        start, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            self.add(name, time.perf_counter() - start, time.process_time() - cpu)

    def add(self, name: str, seconds: float, cpu_seconds: float) -> None:
        """To a phase (or take from it, where one lies inside another)."""
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds
        self.cpu_seconds[name] = self.cpu_seconds.get(name, 0.0) + cpu_seconds


def block_names(model: nn.Module) -> list[str]:
    """The 16 linear blocks of the transformer layers."""
    found = [name for name, _ in model.named_modules() if name.endswith(BLOCKS)]
    assert len(found) == len(BLOCKS) * model.config.n_layer, found
    return found


def with_linears(model: nn.Module, rows: np.ndarray) -> nn.Module:
    """Conv1D (weight [in, out]) -> nn.Linear (weight [out, in]) in all blocks; logits on `rows` stay the same."""
    ids = torch.from_numpy(rows)
    with torch.no_grad():
        before = model(input_ids=ids).logits
        for name in block_names(model):
            conv = model.get_submodule(name)
            assert isinstance(conv, Conv1D)
            linear = nn.Linear(*conv.weight.shape)
            linear.weight.copy_(conv.weight.T)
            linear.bias.copy_(conv.bias)
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, linear)
        torch.testing.assert_close(model(input_ids=ids).logits, before, rtol=1e-4, atol=1e-4)
    return model


def loss(model: nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """Sum over rows and predicted tokens."""
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="sum")


def epoch(model: nn.Module, rows: np.ndarray, timed: int | None = None) -> tuple[float, float]:
    """Seconds, and CPU seconds, of forward and backward over `rows`; the blocks get gradients; no optimizer.

    Only the first `timed` rows are run, if that is a number, and count for all: the rows are of one length.
    """
    ids = torch.from_numpy(rows[:timed])
    for batch in ids[: 2 * EPOCH_BATCH].split(EPOCH_BATCH):  # warm-up
        loss(model, batch).backward()
    start, cpu = time.perf_counter(), time.process_time()
    for batch in ids.split(EPOCH_BATCH):
        model.zero_grad(set_to_none=True)
        loss(model, batch).backward()
    model.zero_grad(set_to_none=True)
    share = len(ids) / len(rows)
    return (time.perf_counter() - start) / share, (time.process_time() - cpu) / share


def arguments(peer: str, methods: Sequence[str], labels: Sequence[str]) -> argparse.Namespace:
    """The interface of every peer script; the first of `methods` and of `labels` is the default."""
    parser = argparse.ArgumentParser(description=f"{peer} on the workload of benchmarks/workload.py")
    parser.add_argument("--workload", type=Path, required=True, help="its folder: tokens.npz and the model")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--model", default="model", help="subfolder of the workload, or a path")
    parser.add_argument("--rows", type=int, help="only the first training rows")
    parser.add_argument("--method", choices=methods, default=methods[0])
    parser.add_argument("--damping", type=float, default=0.1, help="x mean eigenvalue of each block")
    parser.add_argument("--labels", choices=labels, default=labels[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, help="training rows at a time; each script has its fastest as default")
    parser.add_argument("--query-batch", type=int)
    parser.add_argument("--epoch-rows", type=int, help="time the epochs on so many rows, for all; default: on all")
    parser.add_argument("--no-epochs", action="store_true", help="skip the epochs: for scores only")
    parser.add_argument("--keep", action="store_true", help="keep what the peer wrote")
    return parser.parse_args()


def run(peer: str, attribute: Callable[[Job], tuple[np.ndarray, dict[str, Any]]], *, methods: Sequence[str],
        labels: Sequence[str] = ("sampled", "empirical"), packages: Sequence[str] = ()) -> None:
    """Everything around `attribute`, as the top of this file says."""
    args = arguments(peer, methods, labels)
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    with np.load(args.workload / "tokens.npz") as arrays:
        train, queries = arrays["train"][: args.rows], arrays["queries"]
    inside = args.workload / args.model
    scratch = args.out / "scratch"
    for old in (scratch, args.out / "scores.npy", args.out / "result.json"):
        shutil.rmtree(old, ignore_errors=True) if old.is_dir() else old.unlink(missing_ok=True)
    scratch.mkdir(parents=True)
    job = Job(args, (inside if inside.exists() else Path(args.model)).resolve(), train, queries, scratch.resolve())

    plain = job.load()
    plain.requires_grad_(False)
    for name in block_names(plain):
        plain.get_submodule(name).requires_grad_(True)
    result: dict[str, Any] = {
        "peer": peer, "method": args.method, "labels": None if args.method == "gradient-dot" else args.labels,
        "damping": None if args.method == "gradient-dot" else args.damping, "model": args.model, "seed": args.seed,
        "rows": len(train), "queries": len(queries), "threads": args.threads, "failed": None,
        "versions": {name: importlib.metadata.version(name) for name in (*packages, "torch", "transformers", "numpy")},
        "machine": {"processor": platform.machine(), "python": platform.python_version()}}
    epochs = [] if args.no_epochs else [epoch(plain, train, args.epoch_rows)]
    result["rss_before"] = peak_rss()
    settings: dict[str, Any] = {}
    try:
        scores, settings = attribute(job)
        assert scores.shape == (len(queries), len(train)), scores.shape
        if not np.isfinite(scores).all():
            raise ValueError(f"{int((~np.isfinite(scores)).sum())} of {scores.size} scores are not finite")
        np.save(args.out / "scores.npy", scores.astype(np.float32))
    except Exception as error:
        traceback.print_exc()
        result["failed"] = f"{type(error).__name__}: {(str(error) or '?').strip().splitlines()[0]}"
    result["peak_rss"] = peak_rss()
    result["disk"] = sum(path.stat().st_size for path in scratch.rglob("*") if path.is_file())
    if not args.keep:
        shutil.rmtree(scratch)
    if epochs:
        epochs.append(epoch(plain, train, args.epoch_rows))
        result["epoch_seconds"], result["epoch_cpu_seconds"] = ([e[kind] for e in epochs] for kind in (0, 1))
    result["settings"] = settings
    for kind, phases in (("", job.seconds), ("cpu_", job.cpu_seconds)):
        result[f"{kind}seconds"] = phases
        if result["failed"] is None:
            phases["all"] = sum(s for name, s in phases.items() if name != "load")
        if epochs and result["failed"] is None:
            mean = sum(result[f"epoch_{kind}seconds"]) / 2
            result[f"{kind}epochs"] = {name: s / mean for name, s in phases.items()}
    meta = {"sign": SIGN, "peer": peer, "method": args.method, "labels": result["labels"], "damping": result["damping"],
            "divided_by_n": False} | settings.get("meta", {})
    (args.out / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
    (args.out / "result.json").write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({key: result.get(key) for key in ("peer", "method", "failed", "seconds", "epoch_seconds", "epochs",
                                                       "cpu_epochs", "peak_rss", "disk")}))


def peak_rss() -> int:
    """Bytes: the most this process (or a child of it) ever held."""
    return 1024 * max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
