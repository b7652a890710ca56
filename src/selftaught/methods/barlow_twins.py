"""Barlow Twins: each dimension agrees between views and tells what no other tells."""

from torch import Tensor

from selftaught import dist
from selftaught.errors import from_zero
from selftaught.method import Method, ViewBatch
from selftaught.nn.base import Encoder
from selftaught.nn.heads import mlp
from selftaught.objectives.information import cross_correlation


class BarlowTwins(Method):
    """Barlow Twins: Self-Supervised Learning via Redundancy Reduction.

    Zbontar et al. 2021, https://arxiv.org/abs/2103.03230, equations 1 and 2. The correlation is
    that of the global batch, and no gradient is stopped. Needs more samples a batch than a handful:
    it estimates ``dim`` squared correlations from them. Each view is standardised as by the
    authors' code, a batch norm with the biased variance; algorithm 1 divides by the unbiased
    deviation, so that its matrix never quite reaches the identity.

    Raises UserError for a negative weight.
    """

    def __init__(
        self, encoder: Encoder, *, hidden: int = 8192, dim: int = 8192, weight: float = 0.005
    ) -> None:
        super().__init__()
        from_zero(weight=weight)
        self.encoder = encoder
        self.projector = mlp(encoder.dim, hidden, hidden, dim, bias=False)
        self.weight = weight

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``cross_correlation``'s distance from the identity."""
        z1, z2 = (dist.gather(self.projector(self.encoder(x))) for x in batch.views)
        return {"cross_correlation": cross_correlation(z1, z2, self.weight)}
