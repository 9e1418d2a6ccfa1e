"""bergson: EK-FAC, K-FAC and plain gradient dot products through the workers of its pipeline, in this process.

Its command line refuses a batch of more tokens than the model's context, here a single row, so the workers are called
with the data already made. Bias gradients are left out unless asked for. Each step loads the model again: that time
is counted as loading. The queries' gradients belong to the `score` phase; they are preconditioned as they are
read for scoring, which saves writing and reading a second store of them.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from typing import Any
from unittest import mock

import numpy as np
from bergson.build import build_worker
from bergson.config import HessianConfig, IndexConfig, InversionConfig, PreprocessConfig, ScoreConfig
from bergson.data import load_scores
from bergson.hessians.hessian_approximations import hessian_worker
from bergson.score.score import score_worker
from bergson.utils.worker_utils import setup_model_and_peft
from common import Job, run
from datasets import Dataset, disable_progress_bars

ALONE = (0, 0, 1)  # rank, local rank, number of processes
WORKERS = ("bergson.build", "bergson.score.score", "bergson.hessians.hessian_approximations")


def dataset(rows: np.ndarray) -> Dataset:
    """Tokens already made; without labels every token but the first is predicted."""
    return Dataset.from_dict({"input_ids": rows.tolist(), "length": [rows.shape[1]] * len(rows)})


def attribute(job: Job) -> tuple[np.ndarray, dict[str, Any]]:
    args, scratch = job.args, job.scratch
    batch, query_batch = args.batch or 32, args.query_batch or 32
    running = ""  # the phase

    def load_model(*given: Any, **named: Any) -> Any:
        """In the place of bergson's own: the same, but its time is moved from the running phase to `load`."""
        start, cpu = time.perf_counter(), time.process_time()
        loaded = setup_model_and_peft(*given, **named)
        took = time.perf_counter() - start, time.process_time() - cpu
        job.add("load", *took)
        job.add(running, *(-t for t in took))
        return loaded

    def step(name: str, rows_at_once: int, worker: Any, *given: Any) -> None:
        """Run a worker; it writes to NAME.part, which bergson's own launcher then renames."""
        config = IndexConfig(run_path=str(scratch / name), model=str(job.folder), precision="fp32", include_bias=True,
                             loss_reduction="sum", token_batch_size=rows_at_once * job.train.shape[1])
        config.partial_run_path.mkdir(parents=True)
        worker(*ALONE, config, *given)
        shutil.move(config.partial_run_path, config.run_path)

    with job.phase("load"):
        disable_progress_bars()
        train, queries = dataset(job.train), dataset(job.queries)
    preprocess = PreprocessConfig()
    with contextlib.ExitStack() as patched:
        for module in WORKERS:
            patched.enter_context(mock.patch(f"{module}.setup_model_and_peft", load_model))
        if args.method != "gradient-dot":
            corrected = args.method == "ekfac"
            fisher = HessianConfig(method="kfac", ev_correction=corrected,
                                   use_dataset_labels=args.labels == "empirical")
            running = "fit"
            with job.phase(running):
                step("factors", batch, hessian_worker, fisher, train)
            preprocess = PreprocessConfig(hessian_path=str(scratch / "factors"), ev_correction=corrected,
                                          inversion_cfg=InversionConfig(damping_factor=args.damping))
        running = "score"
        with job.phase(running):
            step("queries", query_batch, build_worker, PreprocessConfig(), queries)
            step("scores", batch, score_worker, ScoreConfig(query_path=str(scratch / "queries")), preprocess, train)
            stored = load_scores(scratch / "scores")
            scores = np.asarray(stored[:])
    assert stored.is_written()
    curvature = {"ekfac": "mean over rows of the squared gradient of a row's loss, in the Kronecker eigenbasis",
                 "kfac": "products of eigenvalues of covariances, bergson's scale", "gradient-dot": "identity"}
    return scores.T, {"batch": batch, "query_batch": query_batch, "meta": {"curvature": curvature[args.method]}}


if __name__ == "__main__":
    run("bergson", attribute, methods=("ekfac", "kfac", "gradient-dot"), packages=("bergson",))
