"""LeJEPA: views predict one another, and their embeddings are those of a standard Gaussian."""

import torch
import torch.nn.functional as F
from torch import Tensor

from selftaught import dist
from selftaught.errors import UserError, from_zero_to_one
from selftaught.method import Method, ViewBatch
from selftaught.nn.base import Encoder, encoded
from selftaught.nn.heads import mlp
from selftaught.objectives.information import epps_pulley, scatter, waves


class LeJEPA(Method):
    """LeJEPA: Provable and Scalable Self-Supervised Learning Without the Heuristics.

    Balestriero & LeCun 2025, https://arxiv.org/abs/2511.08544, section 5.1 and algorithm 2. All
    views predict the mean of the ``large`` first ones. Each view's embeddings, over the global
    batch, are tested against a standard Gaussian along ``slices`` directions that are drawn at each
    step. No teacher, no predictor, no stopped gradient; ``weight`` is the one trade-off.

    The integral's knots are those of the authors' code, from 0 to 3 and mirrored, where algorithm 1
    has half as many from -5 to 5. Their code has a transformer see all views at once; here the
    encoder sees those of one size at once, since views may differ in size, and the projector all.

    Raises UserError for a weight outside [0, 1], and for no slices or large views.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        hidden: int = 2048,
        dim: int = 512,
        weight: float = 0.05,
        slices: int = 1024,
        large: int = 2,
        extent: float = 3.0,
        knots: int = 16,
    ) -> None:
        super().__init__()
        from_zero_to_one(weight=weight)
        if min(slices, large, knots) < 1:
            raise UserError(f"{slices} slices of {large} views; use --slices and --views from 1 up")
        self.encoder = encoder
        self.projector = mlp(encoder.dim, hidden, hidden, dim)
        self.weight = weight
        self.slices = slices
        self.large = large
        knot = torch.arange(1, knots + 1) * (extent / knots)
        self.knots = torch.nn.Buffer(knot, persistent=False)  # (K,)

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``prediction`` and ``sigreg``, each with its share of the weight."""
        h = torch.cat(encoded(self.encoder, batch.views))  # (V * B, H)
        z = self.projector(h)  # (V * B, D)
        z = torch.stack(z.chunk(len(batch.views)))  # (V, B, D)
        directions = F.normalize(torch.randn(z.shape[-1], self.slices), dim=0)  # (D, M)
        wave = waves(z, directions.to(self.knots), self.knots)  # (V, 2, M, K)
        wave, count = dist.summed(wave) / dist.world_size(), z.shape[1] * dist.world_size()
        return {
            "prediction": (1 - self.weight) * scatter(z, self.large),
            "sigreg": self.weight * epps_pulley(wave, self.knots, count),
        }
