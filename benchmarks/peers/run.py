"""Every peer on the same workload, rounds interleaved: seconds, epochs, memory and disk in one table.

    python benchmarks/peers/run.py --workload runs/workload                    3 rounds of the default entries
    python benchmarks/peers/run.py --workload runs/workload --rows 64 --repeats 1 --threads 1       a quick trial
    python benchmarks/peers/run.py --workload runs/workload --entries whence:ekfac bergson:ekfac,batch=16

An entry is SCRIPT:METHOD[,OPTION=VALUE...]; it runs SCRIPT_peer.py of this folder with these options, the peers'
scripts in environments made on first use from SCRIPT.txt, whence's with this interpreter. A round runs every entry
once, and every run times its own epochs. Leaves in --out a folder for each run (scores.npy, meta.json, result.json,
log.txt) and results.json with all of them and the medians.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
ENTRIES = ("whence:ekfac", "kronfluence:ekfac", "bergson:ekfac", "whence:kfac", "kronfluence:kfac", "bergson:kfac",
           "whence:gradient-dot", "kronfluence:gradient-dot", "bergson:gradient-dot", "dattri:logra", "dattri:ekfac")
UNWANTED = ("torchvision", "torchaudio")  # dependencies nothing here uses; versions of another torch break imports
PHASES = ("fit", "score", "all")


def interpreter(name: str, envs: Path) -> Path:
    """Python of the peer's environment, made if it is missing or was made from other requirements."""
    requirements = HERE / f"{name}.txt"
    if not requirements.exists():
        return Path(sys.executable)
    env = envs / name
    python, stamp = env / "bin" / "python", env / "made-from.txt"
    if stamp.exists() and stamp.read_text() == requirements.read_text():
        return python
    print(f"making {env} (some minutes)", flush=True)
    shutil.rmtree(env, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(env)], check=True)
    pip = [str(python), "-m", "pip"]
    torch = next(line for line in requirements.read_text().splitlines() if line.startswith("torch=="))
    for command in (["install", "-qq", torch], ["install", "-qq", "-r", str(requirements)],
                    ["uninstall", "-qq", "-y", *UNWANTED]):
        subprocess.run([*pip, *command], check=True)
    stamp.write_text(requirements.read_text())
    return python


def run_once(entry: str, python: Path, out: Path, args: argparse.Namespace) -> dict[str, Any]:
    """One process; what it measured, or how it ended."""
    target, *options = entry.split(",")
    name, _, method = target.partition(":")
    command = [str(python), str(HERE / f"{name}_peer.py"), "--workload", str(args.workload), "--out", str(out),
               "--model", args.model, "--method", method, "--damping", str(args.damping), "--seed", str(args.seed),
               "--threads", str(args.threads)]
    command += ["--rows", str(args.rows)] if args.rows else []
    command += ["--epoch-rows", str(args.epoch_rows)] if args.epoch_rows else []
    for option in options:
        key, _, value = option.partition("=")
        command += [f"--{key}", *([value] if value else [])]
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    quiet = {"OMP_NUM_THREADS": str(args.threads), "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error",
             "TOKENIZERS_PARALLELISM": "false"}
    with (out / "log.txt").open("w") as log:
        try:
            code = subprocess.run(command, env=os.environ | quiet, stdout=log, stderr=subprocess.STDOUT,
                                  timeout=args.timeout).returncode
        except subprocess.TimeoutExpired:
            return {"failed": f"more than {args.timeout} s"}
    if (out / "result.json").exists():
        return json.loads((out / "result.json").read_text())
    last = (out / "log.txt").read_text().strip().splitlines()[-1:] or ["nothing printed"]
    return {"failed": f"exit code {code}: {last[0]}"}


def agreement(a: Path, b: Path) -> float | None:
    """Mean over queries of the correlation over training rows."""
    if not ((a / "scores.npy").exists() and (b / "scores.npy").exists()):
        return None
    x, y = (np.load(path / "scores.npy").astype(np.float64) for path in (a, b))
    if x.shape != y.shape:
        return None
    x, y = ((s - s.mean(1, keepdims=True)) / s.std(1, keepdims=True) for s in (x, y))
    return float((x * y).mean())


def median(rounds: list[dict[str, Any]], *keys: str) -> float | None:
    """Median of a nested number over the rounds that have it."""
    found = []
    for value in rounds:
        for key in keys:
            value = (value or {}).get(key)
        if value is not None:
            found.append(value)
    return statistics.median(found) if found else None


def summary(entry: str, rounds: list[dict[str, Any]], alike: float | None) -> dict[str, Any]:
    """Medians of one entry."""
    failed = next((r["failed"] for r in rounds if r.get("failed")), None)
    return {"entry": entry, "rounds": len(rounds), "failed": failed, "agreement": alike,
            "seconds": {phase: median(rounds, "seconds", phase) for phase in PHASES},
            "epochs": {phase: median(rounds, "epochs", phase) for phase in PHASES},
            "peak_rss": median(rounds, "peak_rss"), "disk": median(rounds, "disk"),
            "epoch_seconds": [second for r in rounds for second in r.get("epoch_seconds", [])],
            "versions": rounds[0].get("versions")}


def table(rows: list[dict[str, Any]], first: str) -> str:
    """Markdown."""
    def cell(value: float | None, form: str, scale: float = 1.0) -> str:
        return "–" if value is None else format(value / scale, form)

    lines = [f"| entry | fit s | score s | all s | fit ep. | score ep. | **all ep.** | peak RSS GB | disk MB | r with"
             f" {first} |", "|---|" + "---|" * 9]
    for row in rows:
        if row["failed"]:
            lines.append(f"| {row['entry']} | failed: {row['failed'][:140]} |" + " |" * 8)
            continue
        numbers = [cell(row["seconds"][phase], ".1f") for phase in PHASES]
        numbers += [cell(row["epochs"][phase], ".2f") for phase in PHASES]
        numbers += [cell(row["peak_rss"], ".2f", 1e9), cell(row["disk"], ".0f", 1e6), cell(row["agreement"], ".3f")]
        lines.append(f"| {row['entry']} | " + " | ".join(numbers) + " |")
    return "\n".join(lines)


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", type=Path, default=Path("runs/workload"))
    parser.add_argument("--envs", type=Path, default=Path("runs/peers"))
    parser.add_argument("--out", type=Path, default=Path("runs/peer-results"))
    parser.add_argument("--entries", nargs="+", default=list(ENTRIES), metavar="SCRIPT:METHOD[,OPTION=VALUE...]")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--epoch-rows", type=int, help="time the epochs on so many rows, for all")
    parser.add_argument("--model", default="model")
    parser.add_argument("--damping", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=3600, help="seconds for one run")
    args = parser.parse_args()
    args.workload = args.workload.resolve()
    args.envs, args.out = args.envs.resolve(), args.out.resolve()

    entries, python = [], {}
    for entry in args.entries:
        name = entry.partition(":")[0]
        if not (HERE / f"{name}_peer.py").exists():
            print(f"skipped {entry}: there is no {name}_peer.py")
            continue
        entries.append(entry)
        python[entry] = interpreter(name, args.envs)
    folder = {entry: entry.replace(":", "-").replace(",", "-").replace("=", "") for entry in entries}
    results: dict[str, list[dict[str, Any]]] = {entry: [] for entry in entries}
    for turn in range(args.repeats):
        for entry in entries:
            start, load = time.perf_counter(), os.getloadavg()[0]
            result = run_once(entry, python[entry], args.out / f"round{turn}" / folder[entry], args)
            results[entry].append(result | {"load_before": load})
            said = result.get("failed") or " ".join(f"{k} {v:.2f}" for k, v in (result.get("epochs") or {}).items())
            print(f"round {turn} {entry}: {said}  ({time.perf_counter() - start:.0f} s, load {load:.1f})", flush=True)
    rows = [summary(entry, results[entry], agreement(args.out / "round0" / folder[entries[0]],
                                                     args.out / "round0" / folder[entry])) for entry in entries]
    found = {"date": time.strftime("%Y-%m-%d"), "arguments": {k: str(v) for k, v in vars(args).items()},
             "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "threads": args.threads},
             "table": rows, "rounds": results}
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    if entries:
        print(table(rows, entries[0]))


if __name__ == "__main__":
    main()
