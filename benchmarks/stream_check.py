"""A corpus larger than the memory there is, searched within the bound that `run/stream.py` states.

    python benchmarks/stream_check.py [--rows 300000] [--allow-mib 96] [--threads 2]

In a process of its own a small model is made, its curvature fitted and a first part of rows searched; then the limit
of its data segment (RLIMIT_DATA) is set to what it holds plus --allow-mib, and --rows rows of text, several times as
many bytes as that, come from a generator and are searched. A second process does the same and keeps the rows in a
list: it must run out of memory, or the limit would show nothing. Prints a table and writes results/stream-check.json;
leaves with 1 where the growth is above the bound, the corpus was not larger than what was allowed, or the second
process lived.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from whence.models.build import build_model, train_tokenizer
from whence.run.run import Run

RESULTS = Path(__file__).parent / "results" / "stream-check.json"
MIB = 1 << 20
WORDS = ["stone", "river", "winter", "lantern", "copper", "meadow", "signal", "harbor", "thread", "candle", "orchard",
         "marble", "falcon", "timber", "velvet", "canyon", "ember", "willow", "anchor", "prairie"]
SHARD, TOP = 1024, 20
OUT_OF_MEMORY = 3  # how the process that keeps everything says so
PYTHON_ROW = 600  # bytes: a dict of two strings, their headers, and the same again as it is hashed and encoded


def rows(count: int) -> Iterator[dict[str, str]]:
    """Rows of about 520 bytes, each different."""
    rng = np.random.default_rng(0)
    for i in range(count):
        words = [WORDS[k] for k in rng.integers(len(WORDS), size=70)]
        yield {"id": f"row-{i}", "text": f"{i} " + " ".join(words)}


def bound(run: Run, queries: int) -> int:
    """Bytes beside the model, by the formula at the head of `run/stream.py`, with a batch's workspace."""
    blocks, width = run.subject.blocks, int(run.model.config.hidden_size)
    layout, layers = run.subject.layout, int(run.model.config.num_hidden_layers)
    vectors = queries * sum(block.parameters for block in blocks) * 4
    part = SHARD * (len(blocks) * queries * (4 + 8) + 32 * queries + 9 * run.model.config.max_position_embeddings
                    + 2 * PYTHON_ROW + 2 * 520)
    batch = layout.batch_tokens * 4 * width * 40 * layers + 5 * (4 * MIB) + 2 * (16 * MIB)
    return vectors + part + queries * TOP * (16 + 520 + PYTHON_ROW) + batch


def child(args: argparse.Namespace) -> dict[str, Any]:
    """Search under the limit; with --hold keep every row."""
    torch.set_num_threads(args.threads)
    texts = [row["text"] for row in rows(64)]
    tokenizer = train_tokenizer(texts, 320)
    model = build_model("llama", tokenizer, width=16, layers=1, heads=2, context=32, seed=0)
    run = Run(model, tokenizer, [{"text": text} for text in texts], encoding={"max_length": 32})
    queries = run.encode([{"prompt": "stone river", "completion": " winter"},
                          {"prompt": "copper", "completion": " meadow signal"}])
    run.search(rows(4 * SHARD), queries, top=TOP, shard_rows=SHARD)  # what is made once is there
    process = psutil.Process()
    before, data = process.memory_info().rss, data_segment()
    limit = data + args.allow_mib * MIB
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    kept: list[dict[str, str]] = []
    peak, size = before, 0

    def watched() -> Iterator[dict[str, str]]:
        nonlocal peak, size
        for i, row in enumerate(rows(args.rows)):
            size += len(row["text"]) + len(row["id"])
            if args.hold:
                kept.append(row)
            if i % SHARD == 0:
                peak = max(peak, process.memory_info().rss)
            yield row

    start = time.perf_counter()
    try:
        found = run.search(watched(), queries, top=TOP, shard_rows=SHARD)
    except (MemoryError, RuntimeError) as error:
        if not args.hold or not ("memory" in str(error) or isinstance(error, MemoryError)):
            raise
        print(json.dumps({"rows_before_the_end": len(kept)}))
        sys.exit(OUT_OF_MEMORY)
    return {"rows": found.counts["scored"], "text_bytes": size, "allowed_bytes": args.allow_mib * MIB,
            "growth_bytes": peak - before, "bound_bytes": bound(run, len(queries)), "before_bytes": before,
            "seconds": time.perf_counter() - start, "best": [hit.score for hit in found.top(0)[:3]]}


def data_segment() -> int:
    """Bytes that RLIMIT_DATA counts."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData"))
    return int(line.split()[1]) * 1024


def main() -> None:
    """Both processes, the table, the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--allow-mib", type=int, default=96)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--hold", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        print(json.dumps(child(args)))
        return
    command = [sys.executable, __file__, "--child", "--rows", str(args.rows), "--allow-mib", str(args.allow_mib),
               "--threads", str(args.threads)]
    quiet = os.environ | {"WHENCE_PROGRESS": "0", "OMP_NUM_THREADS": str(args.threads)}
    streamed = subprocess.run(command, env=quiet, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(streamed.stdout)
    held = subprocess.run([*command, "--hold"], env=quiet, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                          check=False)
    found["kept_in_a_list"] = {"exit": held.returncode, **(json.loads(held.stdout) if held.stdout else {})}
    checks = {"larger than what was allowed": found["text_bytes"] > found["allowed_bytes"],
              "growth within the bound": found["growth_bytes"] <= found["bound_bytes"],
              "bound within what was allowed": found["bound_bytes"] <= found["allowed_bytes"],
              "kept in a list it dies": held.returncode != 0}
    machine = {"processor": platform.machine(), "cores": os.cpu_count(), "threads": args.threads,
               "torch": torch.__version__, "date": str(date.today())}
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps({"machine": machine, **found, "checks": checks}, indent=1) + "\n")
    print(f"{found['rows']:,} rows, {found['text_bytes'] / MIB:.0f} MiB of text in {found['seconds']:.0f} s; "
          f"allowed {args.allow_mib} MiB, bound {found['bound_bytes'] / MIB:.1f} MiB, "
          f"grew by {found['growth_bytes'] / MIB:.1f} MiB; kept in a list: exit {held.returncode} after "
          f"{found['kept_in_a_list'].get('rows_before_the_end', '?')} rows")
    for name, good in checks.items():
        print(f"  {'yes' if good else 'NO ':4} {name}")
    sys.exit(not all(checks.values()))


if __name__ == "__main__":
    main()
