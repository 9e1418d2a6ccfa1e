"""Score the bank's full model with methods of whence: one .npy a method, float64 [queries, rows], for `lds.py`.

    python benchmarks/lds/scores.py --workload runs/workload --bank runs/bank --out runs/scores \\
        random tfidf gradient-dot 'fisher(damping=0.1, scope=model)'

Methods are written as `whence score --method` takes them. Every file is named after its method, `times.json` says what
it took; what is there is left alone, so that later methods join earlier ones. `timings` of methods scored together
share one sweep; to time a method, score it by itself.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
import torch

sys.path.append(str(Path(__file__).resolve().parents[1]))
from workload import LDS_ROWS, rows_to_examples

import whence
from whence.base.files import atomic_file, read_json, write_json
from whence.data.examples import Examples
from whence.methods.catalogue import parse_calls
from whence.models.load import load_model


def examples(workload: Path, tokenizer: object) -> tuple[Examples, Examples]:
    """The rows and queries of the bank, with their decoded text for the lexical methods."""
    arrays = np.load(workload / "tokens.npz")
    train, queries = arrays["train"][:LDS_ROWS], arrays["queries"]
    return (rows_to_examples(train, "row", tokenizer.batch_decode(train)),  # type: ignore[attr-defined]
            rows_to_examples(queries, "query", tokenizer.batch_decode(queries)))  # type: ignore[attr-defined]


def file_of(method: str) -> str:
    """`fisher(damping=0.1, scope=model)` to `fisher(damping=0.1,scope=model).npy`: a name that reads as the method."""
    return method.replace(" ", "") + ".npy"


def main() -> None:
    """Score what is not there yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="+")
    parser.add_argument("--workload", type=Path, required=True, help="folder that benchmarks/workload.py made")
    parser.add_argument("--bank", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    wanted = [str(call) for call in parse_calls(args.methods)]
    missing = [method for method in wanted if not (args.out / file_of(method)).exists()]
    if not missing:
        return print("all there")
    loaded = load_model(args.bank / "full")
    train, queries = examples(args.workload, loaded.tokenizer)
    run = whence.Run(loaded.model, loaded.tokenizer, train=train, base=args.workload / "base")
    start = time.perf_counter()
    scored = run.score(queries, missing)
    seconds = time.perf_counter() - start
    times = read_json(args.out / "times.json") if (args.out / "times.json").exists() else {}
    for method in missing:
        with atomic_file(args.out / file_of(method)) as part, part.open("wb") as file:
            np.save(file, scored.scores[method].values)
        times[method] = {"seconds": round(seconds, 1), "together_with": len(missing), "threads": args.threads,
                         **{name: round(value, 1) for name, value in run.timings.items()},
                         "facts": dict(scored.scores[method].facts)}
    write_json(args.out / "times.json", times)
    print(f"{len(missing)} methods, {seconds:.0f} s: {', '.join(missing)}")


if __name__ == "__main__":
    main()
