"""dattri: LoGra (its projected influence function), gradient dot product (its TracIn with one checkpoint), EK-FAC.

What of it works on this model, and how it has to be asked:

* EK-FAC raises on inputs of three dimensions (batch, position, feature): reported as a failed row.
* LoGra: projection to 64 x 64 for each block, then the exact damped empirical Fisher of the projection. It scales each
  row's gradient by the batch size, so the loss is the mean over rows of the sum over tokens. It takes only labels that
  the data has, hence --labels empirical. Its projection is under torch.compile, which costs more here than it saves.
* TracIn projects to 512 dimensions even when told not to (`projector_kwargs=None` means its default), so that is
  taken out afterwards; and it computes the queries' gradients again for every training batch, so large batches pay.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from common import Job, block_names, loss, run, with_linears
from dattri.algorithm import IFAttributorEKFAC, LoGraAttributor, TracInAttributor
from dattri.task import AttributionTask
from torch import _dynamo, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

PROJECTION = 64 * 64  # dimensions of each block: dattri's default


class MeanLoss(nn.Module):
    """What LoGra calls: a model whose output has a `loss`, the mean over rows of the sum over tokens."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor) -> SimpleNamespace:
        ids = ids.reshape(-1, ids.shape[-1])  # it also tries a single row
        return SimpleNamespace(loss=loss(self.model, ids) / len(ids))


def loader(rows: np.ndarray, batch: int) -> DataLoader:
    """Pairs, for dattri unpacks (inputs, targets); the targets are inside the inputs."""
    ids = torch.from_numpy(rows)
    return DataLoader(TensorDataset(ids, ids), batch_size=batch, shuffle=False)


def logra(job: Job, batch: int, query_batch: int) -> np.ndarray:
    with job.phase("load"):
        model = MeanLoss(with_linears(job.load(), job.queries[:4]))
        names = [f"model.{name}" for name in block_names(model.model)]
        task = AttributionTask(lambda model, batch, device: model(batch[0]).loss, model, model.state_dict())
        attributor = LoGraAttributor(task, names, hessian="eFIM", damping=job.args.damping, proj_dim=PROJECTION,
                                     offload="none", cache_dir=str(job.scratch))
    train = loader(job.train, batch)
    with job.phase("fit"):
        attributor.cache(train)
    with job.phase("score"):
        return attributor.attribute(train, loader(job.queries, query_batch)).T.numpy()


def gradient_dot(job: Job, batch: int, query_batch: int) -> np.ndarray:
    def row_loss(parameters: dict[str, torch.Tensor], data: tuple[torch.Tensor, ...]) -> torch.Tensor:
        ids = data[0][None]
        logits = torch.func.functional_call(model, parameters, kwargs={"input_ids": ids, "use_cache": False}).logits
        return F.cross_entropy(logits[0, :-1], ids[0, 1:], reduction="sum")

    with job.phase("load"):
        model = with_linears(job.load(), job.queries[:4])
        model.config.pad_token_id = None  # else a look at the ids for padding, which vmap does not allow
        names = [f"{name}.{kind}" for name in block_names(model) for kind in ("weight", "bias")]
        task = AttributionTask(row_loss, model, model.state_dict())
        attributor = TracInAttributor(task, torch.ones(1), normalized_grad=False, layer_name=names)
        attributor.projector_kwargs = None
    with job.phase("score"):
        return attributor.attribute(loader(job.train, batch), loader(job.queries, query_batch)).T.numpy()


def ekfac(job: Job, batch: int, query_batch: int) -> np.ndarray:
    def mean_loss(parameters: dict[str, torch.Tensor], data: tuple[torch.Tensor, ...]) -> torch.Tensor:
        ids = data[0].reshape(-1, data[0].shape[-1])
        logits = torch.func.functional_call(model, parameters, kwargs={"input_ids": ids, "use_cache": False}).logits
        summed = F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="sum")
        return summed / len(ids)

    with job.phase("load"):
        model = with_linears(job.load(), job.queries[:4])
        task = AttributionTask(mean_loss, model, model.state_dict())
        attributor = IFAttributorEKFAC(task, block_names(model), damping=job.args.damping)
    train = loader(job.train, batch)
    with job.phase("fit"):
        attributor.cache(train)
    with job.phase("score"):
        return attributor.attribute(train, loader(job.queries, query_batch)).T.numpy()


METHODS = {"logra": logra, "gradient-dot": gradient_dot, "ekfac": ekfac}


def attribute(job: Job) -> tuple[np.ndarray, dict[str, Any]]:
    batch, query_batch = job.args.batch or 32, job.args.query_batch or 50
    _dynamo.config.disable = True
    scores = METHODS[job.args.method](job, batch, query_batch)
    curvature = {"logra": "mean over rows of the outer product of a row's projected gradient, projection 64 x 64",
                 "gradient-dot": "identity", "ekfac": "-"}[job.args.method]
    return scores, {"batch": batch, "query_batch": query_batch, "meta": {"curvature": curvature}}


if __name__ == "__main__":
    run("dattri", attribute, methods=tuple(METHODS), labels=("empirical",), packages=("dattri",))
