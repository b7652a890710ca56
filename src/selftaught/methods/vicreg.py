"""VICReg: views agree, every dimension varies, no two covary."""

from types import MappingProxyType

from torch import Tensor

from selftaught import dist
from selftaught.errors import UserError
from selftaught.method import Method, ViewBatch
from selftaught.nn.base import Encoder
from selftaught.nn.heads import mlp
from selftaught.objectives.information import covariance, invariance, spread


class VICReg(Method):
    """Variance-Invariance-Covariance Regularization for Self-Supervised Learning.

    Bardes, Ponce, LeCun 2021, https://arxiv.org/abs/2105.04906, equation 6 and algorithm 1. The
    statistics are those of the global batch, and no gradient is stopped.

    The weights mean what they mean in the authors' code. There the invariance term is a mean over
    dimensions, the variance term the mean over the two branches, and the covariance term their
    sum. Equation 6 has the first ``dim`` times and the second twice as large.

    Raises UserError for a negative weight.
    """

    agreement = MappingProxyType({"invariance": 0.0})

    def __init__(
        self,
        encoder: Encoder,
        *,
        hidden: int = 8192,
        dim: int = 8192,
        variance_weight: float = 25.0,
        invariance_weight: float = 25.0,
        covariance_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.weights = (variance_weight, invariance_weight, covariance_weight)
        if min(self.weights) < 0:
            raise UserError(
                f"weights of {', '.join(map(str, self.weights))}; use --variance-weight, "
                "--invariance-weight and --covariance-weight from 0 up"
            )
        self.encoder = encoder
        self.projector = mlp(encoder.dim, hidden, hidden, dim, bias=False)

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``variance``, ``invariance`` and ``covariance``, each with its weight."""
        z1, z2 = (dist.gather(self.projector(self.encoder(x))) for x in batch.views)
        variance, agree, covary = self.weights
        return {
            "variance": variance * (spread(z1) + spread(z2)) / 2,
            "invariance": agree * invariance(z1, z2),
            "covariance": covary * (covariance(z1) + covariance(z2)),
        }
