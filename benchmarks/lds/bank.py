"""A bank of retrained models: what every query's log-probability becomes when half of the training rows are left out.

The base model of the workload is fine-tuned on its first 500 rows, once on all of them ("full") and once on each of
`--members` random halves, from the same initial weights, with the same batches in the same order and the same
schedule: a row that is left out weighs 0 in its batch and nothing else changes, so that members differ by the rows
and by no noise of training. The whole is done twice, with two batch orders (`a` and `b`): what two such banks disagree
on no method can predict, and that is the ceiling of the score.

    python benchmarks/lds/bank.py --workload runs/workload --out runs/bank

leaves in the folder:

    bank.json              what it was made from; another workload, learning rate or base is refused
    a/base.npz             log-probability of each query in the model before the fine-tune
    a/full.npz, b/full.npz after the fine-tune on all rows
    a/000.npz, b/000.npz   after the fine-tune on a half; both on the same half
    full/                  the model of a/full.npz, the one to attribute

Each .npz holds kept bool [500], queries float64 [50] (log-probability, summed over the 127 predicted tokens, nats)
and losses float64 [steps]; base and full also rows float64 [500], the same of the training rows. Files are written
whole or not at all; the same command goes on where it stopped, and a worker that dies is started again.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

sys.path.append(str(Path(__file__).resolve().parents[1]))
from workload import LDS_ROWS, fine_tune

from whence.base.files import atomic_file, read_json, write_json
from whence.base.hashing import hash_json, hash_tensors
from whence.models.build import save

BATCH, EPOCHS, LR = 16, 3, 1.5e-3
ORDERS = {"a": 0, "b": 1}  # seeds of the batch orders
Job = tuple[str, str]  # order, and base, full or the number of a member


def batch_order(order: str) -> np.ndarray:
    """int64 [EPOCHS x 500]: a fresh permutation of the rows for each epoch, one after the other."""
    return np.concatenate([np.random.default_rng([ORDERS[order], epoch]).permutation(LDS_ROWS)
                           for epoch in range(EPOCHS)])


def kept_rows(name: str) -> np.ndarray:
    """bool [500]: all rows for `full`, none for `base`, a random half that follows from the number of a member."""
    kept = np.full(LDS_ROWS, name == "full")
    if name.isdigit():
        kept[np.random.default_rng([2, int(name)]).permutation(LDS_ROWS)[: LDS_ROWS // 2]] = True
    return kept


def jobs(members: int, orders: str) -> list[Job]:
    """Everything a bank consists of, what is needed first first."""
    names = ["full", *(f"{member:03d}" for member in range(members))]
    return [("a", "base"), *((order, name) for order in orders for name in names)]


def log_probs(model: PreTrainedModel, tokens: np.ndarray, batch: int = 10) -> np.ndarray:
    """float64 [rows]: log-probability of each row's tokens but the first, in nats; softmax and sum in float64."""
    found = []
    with torch.no_grad():
        for start in range(0, len(tokens), batch):
            ids = torch.from_numpy(tokens[start : start + batch])
            logits = model(input_ids=ids, use_cache=False).logits[:, :-1].double()
            tokenwise = F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
            found.append(-tokenwise.view(len(ids), -1).sum(1))
    return torch.cat(found).numpy()


def make(workload: Path, out: Path, job: Job, lr: float) -> None:
    """Fine-tune one member and write what became of the queries; the full model of order `a` is kept."""
    order, name = job
    arrays = np.load(workload / "tokens.npz")
    rows, kept = arrays["train"][:LDS_ROWS], kept_rows(name)
    model = AutoModelForCausalLM.from_pretrained(str(workload / "base")).eval()
    losses = [] if name == "base" else fine_tune(model, rows, batch_order(order), batch=BATCH, lr=lr, kept=kept)
    if job == ("a", "full"):
        save(model, AutoTokenizer.from_pretrained(str(workload / "base")), out / "full")
    found = {"kept": kept, "queries": log_probs(model, arrays["queries"]), "losses": np.array(losses)}
    if not name.isdigit():
        found["rows"] = log_probs(model, rows)
    if not np.isfinite(found["queries"]).all():
        raise SystemExit(f"{order}/{name}: a query's log-probability is not finite; lower lr={lr}")
    with atomic_file(out / order / f"{name}.npz") as part, part.open("wb") as file:
        np.savez(file, **found)


def work(workload: Path, out: Path, mine: list[Job], lr: float) -> None:
    """One worker: its jobs one after the other on one thread."""
    torch.set_num_threads(1)
    os.environ["WHENCE_PROGRESS"] = "0"
    for job in mine:
        start = time.perf_counter()
        make(workload, out, job, lr)
        print(f"{'/'.join(job)}: {time.perf_counter() - start:.0f} s", flush=True)


def identity(workload: Path, lr: float) -> dict[str, object]:
    """What members must have in common to be of one bank."""
    arrays = np.load(workload / "tokens.npz")
    base = AutoModelForCausalLM.from_pretrained(str(workload / "base"))
    return {"tokens": hash_json([arrays["train"][:LDS_ROWS].tolist(), arrays["queries"].tolist()]),
            "base": hash_tensors(base.state_dict().items()), "rows": LDS_ROWS, "batch": BATCH, "epochs": EPOCHS,
            "lr": lr}


def main() -> None:
    """Make what is missing of the bank."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workload", type=Path, required=True, help="folder that benchmarks/workload.py made")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--members", type=int, default=48)
    parser.add_argument("--workers", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--orders", choices=("a", "b", "ab"), default="ab", help="one of the two banks, or both")
    parser.add_argument("--lr", type=float, default=LR)
    args = parser.parse_args()
    about = identity(args.workload, args.lr)
    if (args.out / "bank.json").exists():
        if read_json(args.out / "bank.json") != about:
            raise SystemExit(f"{args.out}: another base, other rows or another schedule; choose another folder")
    else:
        write_json(args.out / "bank.json", about)
    start, context, left = time.perf_counter(), multiprocessing.get_context("spawn"), -1
    wanted = jobs(args.members, args.orders)
    while missing := [job for job in wanted if not (args.out / job[0] / f"{job[1]}.npz").exists()]:
        if len(missing) == left:  # a whole round brought nothing
            raise SystemExit(f"{left} members are missing and the workers die; the first is {'/'.join(missing[0])}")
        left = len(missing)
        print(f"{left} members to make", flush=True)
        workers = [context.Process(target=work, args=(args.workload, args.out, missing[i :: args.workers], args.lr))
                   for i in range(args.workers)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    base, full = np.load(args.out / "a" / "base.npz"), np.load(args.out / args.orders[0] / "full.npz")
    for what, length in (("queries", len(full["queries"])), ("rows", len(full["rows"]))):
        print(f"{length} {what}: {base[what].mean():.1f} -> {full[what].mean():.1f} nats")
    print(f"{args.members} members, orders {args.orders}: {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
