"""SimSiam: predict the other view's projection, which gets no gradient."""

from types import MappingProxyType

from torch import Tensor

from selftaught.method import Method, ViewBatch
from selftaught.nn.base import Encoder
from selftaught.nn.heads import mlp
from selftaught.objectives.regression import negative_cosine


class SimSiam(Method):
    """Exploring Simple Siamese Representation Learning.

    Chen & He 2020, https://arxiv.org/abs/2011.10566, equations 1 to 4 and algorithm 1. No
    negatives and no slow copy; the stop-gradient keeps it from collapsing. The projector ends with
    a batch norm, the predictor is a bottleneck whose learning rate the recipe holds constant.
    """

    agreement = MappingProxyType({"regression": -1.0})

    def __init__(
        self, encoder: Encoder, *, dim: int = 2048, hidden: int = 2048, bottleneck: int = 512
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = mlp(encoder.dim, hidden, hidden, dim, norm_out=True)
        self.predictor = mlp(dim, bottleneck, dim)

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``regression``: the symmetrised negative cosine similarity, in [-1, 1]."""
        z1, z2 = (self.projector(self.encoder(x)) for x in batch.views)
        p1, p2 = self.predictor(z1), self.predictor(z2)
        return {"regression": (negative_cosine(p1, z2) + negative_cosine(p2, z1)) / 2}
