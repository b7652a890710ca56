"""SimCLR: agree on two views of one image against all other images of the batch."""

import math

from torch import Tensor

from selftaught import dist
from selftaught.errors import above_zero
from selftaught.method import Method, ViewBatch
from selftaught.nn.base import Encoder
from selftaught.nn.heads import mlp
from selftaught.objectives.contrastive import nt_xent


class SimCLR(Method):
    """A Simple Framework for Contrastive Learning of Visual Representations.

    Chen, Kornblith, Norouzi, Hinton 2020, https://arxiv.org/abs/2002.05709, algorithm 1. The
    projection head has one hidden layer, with batch norm as in the authors' code.

    Deviations from that code: its head ends in a second batch norm, the paper's has none; its batch
    norm is over both views at once, here over one; what it minimises is twice the mean of algorithm
    1, which is minimised here.

    Needs a large batch: its other images are the negatives. Raises UserError for a temperature
    that is not positive.
    """

    tells_apart = ("nt_xent",)

    def __init__(
        self, encoder: Encoder, *, hidden: int = 2048, dim: int = 128, temperature: float = 0.5
    ) -> None:
        super().__init__()
        above_zero(temperature=temperature)
        self.encoder = encoder
        self.projector = mlp(encoder.dim, hidden, dim)
        self.temperature = temperature

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``nt_xent`` of the two views, over the global batch."""
        z1, z2 = (dist.gather(self.projector(self.encoder(x))) for x in batch.views)
        return {"nt_xent": nt_xent(z1, z2, self.temperature)}

    def chance(self, x: Tensor, count: int) -> dict[str, float]:
        """The logarithm of the number of candidates."""
        return {"nt_xent": math.log(2 * count - 1)}
