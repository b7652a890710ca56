"""MoCo: find an image's key, made by a slow copy of the network, among a queue of past keys."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from selftaught import dist
from selftaught.errors import above_zero, from_zero_to_one
from selftaught.method import Method, ViewBatch
from selftaught.nn.base import Encoder
from selftaught.nn.heads import mlp
from selftaught.nn.memory import EMA, Queue
from selftaught.nn.norm import group
from selftaught.objectives.contrastive import info_nce


class MoCo(Method):
    """Momentum Contrast for Unsupervised Visual Representation Learning.

    He et al. 2019, https://arxiv.org/abs/1911.05722, equations 1 and 2, algorithm 1. Keys are
    encoded in another order than queries, so that their batch norm, taken over ``groups`` parts of
    the batch, gives nothing away (section 3.3, "Shuffling BN"). With a hidden layer in its
    projector it is MoCo v2 (Chen et al. 2020, https://arxiv.org/abs/2003.04297), without batch
    norm there as in the authors' code.

    The batch must be a multiple of ``groups``, each of at least two samples. Raises UserError for
    a temperature that is not positive and a momentum outside [0, 1].
    """

    tells_apart = ("info_nce",)

    def __init__(
        self,
        encoder: Encoder,
        *,
        dim: int = 128,
        hidden: int = 0,
        queue: int = 65536,
        momentum: float = 0.999,
        temperature: float = 0.07,
        groups: int = 8,
    ) -> None:
        super().__init__()
        above_zero(temperature=temperature)
        from_zero_to_one(momentum=momentum)
        self.encoder = encoder
        widths = (encoder.dim, hidden, dim) if hidden else (encoder.dim, dim)
        self.projector = mlp(*widths, norm=False)
        self.target = EMA(encoder, self.projector)
        self.queue = Queue(queue, dim)
        self.momentum = momentum
        self.temperature = temperature
        group(self, groups)

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``info_nce`` of each query with its key against the queue."""
        x1, x2 = batch.views
        q = self.projector(self.encoder(x1))
        order = torch.randperm(len(x2) * dist.world_size()).to(q.device)
        k = dist.gather(self.target(dist.mine(dist.gather(x2)[order])))[order.argsort()]
        self.keys = k
        return {"info_nce": info_nce(q, dist.mine(k), self.queue.rows, self.temperature)}

    def chance(self, x: Tensor, count: int) -> dict[str, float]:
        """The logarithm of the number of candidates."""
        return {"info_nce": math.log(len(self.queue.rows) + 1)}

    def after_step(self) -> None:
        """Move the copy towards the network, and the keys into the queue."""
        self.target.update(self.encoder, self.projector, momentum=self.momentum)
        self.queue.push(F.normalize(self.keys.to(self.queue.rows), dim=1))
