"""Is the trust card right? Six faults of known cause, planted one at a time in a run that is sound.

    python benchmarks/card/planted.py --out benchmarks/results/card [--seeds 10] [--workers 2]

The sound run is convex: a small random transformer whose output head alone is trained, by L-BFGS on all rows until its
gradient is zero. Its influence scores are right by construction, up to the damping. Every fault changes one thing:

    few steps     the head is stopped after three steps of gradient descent
    idle          damping of 100,000 x the mean eigenvalue, where no curvature is left
    no behaviour  queries whose response is the least likely token: its log-probability moves, the greedy answer never
    outlier       one row stands among the rows that the training has not seen: fifty times the same unlikely token
    shuffled      the scores of every query in random order

For each seed and case: the verdict of `verify --level cheap`, and the dials that are not good. A sound run that is not
believed is a false alarm; a fault that is believed, or whose own dial is silent, is a miss. Results are written as
they come; cases that are there are not run again.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from whence.data.batch import collate
from whence.data.examples import Examples
from whence.models.build import train_tokenizer
from whence.run.run import Run
from whence.scores.matrix import Scores
from whence.train.objective import objective
from whence.trust.card import Card
from whence.trust.dial import Reading

VOCAB, WIDTH, ROWS, QUERIES, LENGTH = 24, 8, 160, 12, 8
EXPECTED = {"sound": None, "few steps": "convergence", "idle": "curvature at work", "no behaviour": "behaviour",
            "outlier": "outliers", "shuffled": "nudge test"}


@dataclass(frozen=True)
class Sound:
    """A trained model with its rows and queries."""

    model: GPT2LMHeadModel
    train: Examples
    queries: Examples


def examples(rng: np.random.Generator, chain: np.ndarray, count: int, prefix: str) -> Examples:
    """Walks over a random Markov chain: five tokens of prompt, three of response."""
    walks = np.empty((count, LENGTH), dtype=np.int64)
    walks[:, 0] = rng.integers(VOCAB, size=count)
    for t in range(1, LENGTH):
        walks[:, t] = [rng.choice(VOCAB, p=chain[at]) for at in walks[:, t - 1]]
    return of_tokens(list(walks), 5, prefix)


def of_tokens(tokens: Sequence[np.ndarray], prompt: int, prefix: str) -> Examples:
    """Examples whose texts are the numbers of their tokens."""
    def texts(part: slice) -> tuple[str, ...]:
        return tuple(" ".join(f"t{token}" for token in row[part]) for row in tokens)

    return Examples(tuple(f"{prefix}{i}" for i in range(len(tokens))), (None,) * len(tokens), texts(slice(prompt)),
                    texts(slice(prompt, None)), tuple(tokens),
                    tuple(np.arange(len(row)) >= prompt for row in tokens), (False,) * len(tokens))


def make(seed: int, steps: int | None = None) -> Sound:
    """A random body, and a head trained until nothing is left of its gradient, or for a few steps."""
    rng = np.random.default_rng(seed)
    chain = rng.dirichlet(np.full(VOCAB, 0.3), size=VOCAB)
    train, queries = examples(rng, chain, ROWS, "row"), examples(rng, chain, QUERIES, "query")
    torch.manual_seed(seed)
    config = GPT2Config(vocab_size=VOCAB, n_embd=WIDTH, n_layer=1, n_head=1, n_positions=80, resid_pdrop=0.0,
                        embd_pdrop=0.0, attn_pdrop=0.0, tie_word_embeddings=False, bos_token_id=None,
                        eos_token_id=None)
    model = GPT2LMHeadModel(config).eval()
    model.transformer.wte.weight.data *= 50  # tokens must be told apart by their features
    model.requires_grad_(False)
    model.lm_head.weight.requires_grad_(True)
    fit(model, train, steps)
    return Sound(model, train, queries)


def fit(model: GPT2LMHeadModel, train: Examples, steps: int | None) -> None:
    """Minimise the mean loss of all rows over the head's weights, which is convex."""
    batch = collate(train, range(len(train)), 0)
    weight = model.lm_head.weight
    torch.nn.init.zeros_(weight)
    if steps is not None:
        for _ in range(steps):
            loss, _ = objective(model, batch, "token")
            (g,) = torch.autograd.grad(loss, weight)
            weight.data -= 0.3 * g
        return
    optimizer = torch.optim.LBFGS([weight], max_iter=2000, tolerance_grad=1e-7, tolerance_change=0,
                                  history_size=50, line_search_fn="strong_wolfe")

    def evaluate() -> torch.Tensor:
        optimizer.zero_grad()
        loss, _ = objective(model, batch, "token")
        loss.backward()
        return loss

    optimizer.step(evaluate)


def run_of(sound: Sound) -> Run:
    """The run: its only block is the head."""
    tokenizer = train_tokenizer([" ".join(sound.train.prompts)], 300)
    return Run(sound.model, tokenizer, sound.train, blocks=("lm_head",))


def verify(sound: Sound, seed: int, method: str | Scores = "ekfac(rows=-1)") -> Card:
    """The card at the cheap level."""
    return run_of(sound).verify(sound.queries, method, "cheap", seed=seed)


def idle(seed: int) -> Card:
    return verify(make(seed), seed, "ekfac(rows=-1, damping=100000)")


def no_behaviour(seed: int) -> Card:
    """Queries of one token, the least likely of all."""
    sound = make(seed)
    prompts = [row[:5] for row in sound.queries.tokens]
    with torch.no_grad():
        worst = sound.model(torch.from_numpy(np.stack(prompts))).logits[:, -1].argmin(dim=1).numpy()
    asked = of_tokens([np.append(prompt, token) for prompt, token in zip(prompts, worst, strict=True)], 5, "query")
    return verify(replace(sound, queries=asked), seed)


def outlier(seed: int) -> Card:
    sound = make(seed)
    with torch.no_grad():  # the token that the model least expects after itself
        doubled = torch.arange(VOCAB)[:, None].expand(-1, 30)
        token = int(sound.model(doubled).logits.log_softmax(-1)[:, -1].diagonal().argmin())
    rows = [*sound.train.tokens[:-1], np.full(55, token)]
    return verify(replace(sound, train=of_tokens(rows, 5, "row")), seed)


def shuffled(seed: int) -> Card:
    sound = make(seed)
    values = run_of(sound).score(sound.queries, ["ekfac(rows=-1)"])["ekfac(rows=-1)"].values
    return verify(sound, seed, Scores(np.random.default_rng([seed, 2]).permuted(values, axis=1), "shuffled ekfac"))


CASES: dict[str, Callable[[int], Card]] = {
    "sound": lambda seed: verify(make(seed), seed), "few steps": lambda seed: verify(make(seed, steps=3), seed),
    "idle": idle, "no behaviour": no_behaviour, "outlier": outlier, "shuffled": shuffled}


def one(case: str, seed: int) -> dict[str, Any]:
    """One case: the verdict and what the dials read."""
    torch.set_num_threads(1)
    os.environ["WHENCE_PROGRESS"] = "0"
    start = time.monotonic()
    card = CASES[case](seed)
    dials = {dial.name: {"reading": dial.reading.name.lower(), "value": None if np.isnan(dial.value) else dial.value,
                         "says": dial.says} for dial in card.dials}
    return {"case": case, "seed": seed, "answer": card.verdict.answer, "because": list(card.verdict.because),
            "answers": card.answers, "dials": dials, "seconds": time.monotonic() - start}


def judged(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of every case: verdicts, how often its own dial and others fired, false alarms and misses."""
    rows = []
    for case, own in EXPECTED.items():
        of_case = [run for run in found if run["case"] == case]
        fired = [[name for name, dial in run["dials"].items()
                  if dial["reading"] in (Reading.POOR.name.lower(), Reading.BAD.name.lower())
                  and name != "curvature error"] for run in of_case]
        rows.append({
            "case": case, "dial": own, "seeds": len(of_case),
            **{answer: sum(run["answer"] == answer for run in of_case)
               for answer in ("believe", "doubt", "don't believe")},
            "own dial fired": None if own is None else sum(own in names for names in fired),
            "others fired": {name: count for name in sorted({n for names in fired for n in names} - {own})
                             if (count := sum(name in names for names in fired))},
            "wrong": sum(run["answer"] != "believe" for run in of_case) if own is None else
            sum(run["answer"] == "believe" or own not in names for run, names in zip(of_case, fired, strict=True))})
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """As Markdown."""
    names = ["planted", "believe", "doubt", "don't believe", "its dial", "fired", "others that fired",
             "false alarms or misses"]
    lines = [f"| {' | '.join(names)} |", f"|{'---|' * len(names)}"]
    for row in rows:
        others = ", ".join(f"{name} {count}" for name, count in row["others fired"].items()) or "-"
        fired = "-" if row["dial"] is None else f"{row['own dial fired']} of {row['seeds']}"
        cells = [row["case"], row["believe"], row["doubt"], row["don't believe"], row["dial"] or "-", fired, others,
                 f"{row['wrong']} of {row['seeds']}"]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="without its ending: .json and .md are written")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    options = parser.parse_args(arguments)
    path = options.out.with_suffix(".json")
    path.parent.mkdir(parents=True, exist_ok=True)
    found: list[dict[str, Any]] = json.loads(path.read_text())["runs"] if path.exists() else []
    there = {(run["case"], run["seed"]) for run in found}
    left = [(case, seed) for seed in range(options.seeds) for case in options.cases if (case, seed) not in there]
    with ProcessPoolExecutor(options.workers, get_context("spawn")) as pool:
        for future in as_completed([pool.submit(partial(one, case, seed)) for case, seed in left]):
            found.append(future.result())
            last = found[-1]
            print(f"{last['case']} {last['seed']}: {last['answer']} ({', '.join(last['because'])})  "
                  f"{last['seconds']:.0f} s", flush=True)
            machine = f"{platform.machine()}, torch {torch.__version__}, one thread a worker"
            rows = judged(found)
            path.write_text(json.dumps({"machine": machine, "table": rows, "runs": found}, indent=1))
            options.out.with_suffix(".md").write_text(f"{table(rows)}\n")
    print(table(judged(found)))


if __name__ == "__main__":
    main()
