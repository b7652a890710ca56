"""BYOL: predict what a slowly moving copy of the network makes of the other view."""

from types import MappingProxyType

from torch import Tensor

from selftaught.errors import from_zero_to_one
from selftaught.method import Method, ViewBatch
from selftaught.nn.base import Encoder
from selftaught.nn.heads import mlp
from selftaught.nn.memory import EMA
from selftaught.nn.schedules import cosine
from selftaught.objectives.regression import cosine_regression


class BYOL(Method):
    """Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning.

    Grill et al. 2020, https://arxiv.org/abs/2006.07733, equations 1 to 3 and section 3.2. No
    negatives; the predictor and the target's momentum keep it from collapsing. The momentum rises
    to one along a cosine.

    Raises UserError for a momentum outside [0, 1].
    """

    agreement = MappingProxyType({"regression": 0.0})

    def __init__(
        self, encoder: Encoder, *, hidden: int = 4096, dim: int = 256, momentum: float = 0.996
    ) -> None:
        super().__init__()
        from_zero_to_one(momentum=momentum)
        self.encoder = encoder
        self.projector = mlp(encoder.dim, hidden, dim, bias=False)
        self.predictor = mlp(dim, hidden, dim, bias=False)
        self.target = EMA(encoder, self.projector)
        self.momentum = momentum

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``regression`` of each view's prediction on the target's projection of the other."""
        x1, x2 = batch.views
        p1, p2 = (self.predictor(self.projector(self.encoder(x))) for x in (x1, x2))
        z1, z2 = self.target(x1), self.target(x2)
        return {"regression": cosine_regression(p1, z2) + cosine_regression(p2, z1)}

    def after_step(self) -> None:
        """Move the target towards the online network."""
        momentum = cosine(self.progress, self.momentum, 1.0)
        self.target.update(self.encoder, self.projector, momentum=momentum)
