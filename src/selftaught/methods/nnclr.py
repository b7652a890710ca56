"""NNCLR: agree with your nearest neighbour among past images, not with your own other view."""

import math

import torch.nn.functional as F
from torch import Tensor, nn

from selftaught import dist
from selftaught.errors import above_zero
from selftaught.method import Method, ViewBatch
from selftaught.nn.base import Encoder
from selftaught.nn.heads import mlp
from selftaught.nn.memory import Queue
from selftaught.objectives.contrastive import matching, nearest


class NNCLR(Method):
    """With a Little Help from My Friends: Nearest-Neighbor Contrastive Learning.

    Dwibedi et al. 2021, https://arxiv.org/abs/2104.14548, equations 2 and 3, algorithm 1. Each
    view's nearest neighbour in the support set looks for the prediction of the other view among
    those of all images. The support set is the one from before the batch; afterwards the first
    views' projections enter it. The projector ends with a batch norm, the predictor does not.
    Of the text's symmetric loss, which lets each prediction look for its neighbour among all
    neighbours too, algorithm 1 knows nothing, and neither does this.

    Raises UserError for a temperature that is not positive.
    """

    tells_apart = ("info_nce",)

    def __init__(
        self,
        encoder: Encoder,
        *,
        hidden: int = 2048,
        dim: int = 256,
        predictor_hidden: int = 4096,
        queue: int = 98304,
        temperature: float = 0.1,
    ) -> None:
        super().__init__()
        above_zero(temperature=temperature)
        self.encoder = encoder
        self.projector = mlp(encoder.dim, hidden, hidden, dim, bias=False)
        self.projector.append(nn.BatchNorm1d(dim))
        self.predictor = mlp(dim, predictor_hidden, dim)
        self.queue = Queue(queue, dim)
        self.temperature = temperature

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``info_nce`` of each view's neighbour with the other's prediction, over both ways."""
        z1, z2 = (self.projector(self.encoder(x)) for x in batch.views)
        p1, p2 = (dist.gather(self.predictor(z)) for z in (z1, z2))
        n1, n2 = (dist.gather(nearest(z, self.queue.rows)) for z in (z1, z2))
        self.seen = dist.gather(z1.detach())
        one, two = matching(n1, p2, self.temperature), matching(n2, p1, self.temperature)
        return {"info_nce": (one + two) / 2}

    def chance(self, x: Tensor, count: int) -> dict[str, float]:
        """The logarithm of the number of candidates."""
        return {"info_nce": math.log(count)}

    def after_step(self) -> None:
        """Put the first views' projections into the support set."""
        self.queue.push(F.normalize(self.seen.to(self.queue.rows), dim=1))
