"""kronfluence: EK-FAC, K-FAC and plain gradient dot products through its Analyzer.

It knows nn.Linear and nn.Conv2d but not GPT-2's Conv1D, so those are replaced (same logits, asserted).
Its damping is either absolute or 0.1 x mean eigenvalue; the factor 0.1 is a constant of the module that uses
it, set here to --damping. Queries are all in one batch: every further query batch is another pass over the rows.
"""

from __future__ import annotations

import logging
from typing import Any

import kronfluence.factor.config as factor_config
import numpy as np
import torch
from common import Job, block_names, loss, run, with_linears
from kronfluence.analyzer import Analyzer, prepare_model
from kronfluence.arguments import FactorArguments, ScoreArguments
from kronfluence.task import Task
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset

STRATEGY = {"ekfac": "ekfac", "kfac": "kfac", "gradient-dot": "identity"}


class Rows(Dataset):
    """Token rows."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = torch.from_numpy(rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.rows[index]


class NextToken(Task):
    """Loss: sum over all predicted tokens, of the given or of sampled labels. Measurement: the query's loss."""

    def __init__(self, blocks: list[str]) -> None:
        self.blocks = blocks

    def compute_train_loss(self, batch: torch.Tensor, model: nn.Module, sample: bool = False) -> torch.Tensor:
        if not sample:
            return loss(model, batch)
        logits = model(input_ids=batch, use_cache=False).logits[:, :-1].flatten(0, 1)
        with torch.no_grad():
            labels = torch.multinomial(logits.softmax(-1), num_samples=1).flatten()
        return F.cross_entropy(logits, labels, reduction="sum")

    def compute_measurement(self, batch: torch.Tensor, model: nn.Module) -> torch.Tensor:
        return loss(model, batch)  # minus the log-probability; so is the training loss: the signs cancel

    def get_influence_tracked_modules(self) -> list[str]:
        return self.blocks

    def get_attention_mask(self, batch: torch.Tensor) -> None:
        return None


def attribute(job: Job) -> tuple[np.ndarray, dict[str, Any]]:
    args = job.args
    logging.disable(logging.INFO)
    factor_config.HEURISTIC_DAMPING_SCALE = args.damping
    with job.phase("load"):
        model = with_linears(job.load(), job.queries[:4])
        task = NextToken(block_names(model))
        model = prepare_model(model, task)
        analyzer = Analyzer("peer", model, task, cpu=True, disable_tqdm=True, output_dir=str(job.scratch))
    train, queries = Rows(job.train), Rows(job.queries)
    batch = args.batch or 32
    query_batch = args.query_batch or len(queries)
    strategy = STRATEGY[args.method]
    factors = FactorArguments(strategy=strategy, use_empirical_fisher=args.labels == "empirical")
    if strategy != "identity":
        with job.phase("fit"):
            analyzer.fit_all_factors("factors", train, per_device_batch_size=batch, factor_args=factors)
    else:
        analyzer.fit_all_factors("factors", train, per_device_batch_size=batch, factor_args=factors)  # only a record
    with job.phase("score"):
        analyzer.compute_pairwise_scores(
            "scores", "factors", queries, train, per_device_query_batch_size=query_batch,
            per_device_train_batch_size=batch, score_args=ScoreArguments(damping_factor=None))
        scores = analyzer.load_pairwise_scores("scores")["all_modules"]
    curvature = {"ekfac": "mean over rows of the squared gradient of a row's loss, in the Kronecker eigenbasis",
                 "kfac": "products of eigenvalues of per-token covariances", "gradient-dot": "identity"}[args.method]
    return scores.numpy(), {"batch": batch, "query_batch": query_batch, "meta": {"curvature": curvature}}


if __name__ == "__main__":
    run("kronfluence", attribute, methods=tuple(STRATEGY), packages=("kronfluence",))
