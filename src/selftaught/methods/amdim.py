"""AMDIM: one view's features tell another view's, from scale to scale."""

import math

import torch
from torch import Tensor

from selftaught import dist
from selftaught.errors import UserError
from selftaught.method import Method, ViewBatch
from selftaught.nn.base import Encoder
from selftaught.nn.scales import AmdimNano, PlaceEmbedding
from selftaught.objectives.local import across_scales


class AMDIM(Method):
    """Learning Representations by Maximizing Mutual Information Across Views.

    Bachman, Hjelm, Buchwalter 2019, https://arxiv.org/abs/1906.00910, sections 3.2 to 3.5, with
    the terms, the clipping and the penalty of the authors' code: features of the whole image (1x1)
    find the 5x5 and 7x7 features of the other view, and one of the 5x5 features, drawn at random,
    finds the others' 5x5 features. Both views are in turn the one that finds. Negatives are all
    places of the other images of the global batch. Mixtures (section 3.7) are left out;
    crops have ratios of 3/4 to 4/3, theirs of 0.7 to 1.4.

    Raises UserError for an encoder without those scales, a clip that is not positive and a negative
    penalty.
    """

    tells_apart = ("1_to_5", "1_to_7", "5_to_5")

    def __init__(self, encoder: Encoder, *, clip: float = 20.0, penalty: float = 5e-2) -> None:
        super().__init__()
        if not isinstance(encoder, AmdimNano):
            raise UserError(
                "amdim needs an encoder whose features of three scales know of their own places "
                "only: use --encoder amdim-nano"
            )
        if clip <= 0 or penalty < 0:
            raise UserError(
                f"a clip of {clip} and a penalty of {penalty}; use --score-clip above 0 and "
                "--penalty of 0 or more"
            )
        self.encoder: AmdimNano = encoder
        self.embed5 = PlaceEmbedding(encoder.local, encoder.dim)
        self.embed7 = PlaceEmbedding(encoder.local, encoder.dim)
        self.clip, self.penalty = clip, penalty

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """A term for each pair of scales, and the ``penalty`` of large scores."""
        one, two = (self._embedded(x) for x in batch.views)
        terms: dict[str, Tensor] = {}
        for source, target in ((one, two), (two, one)):
            z1, z5, _ = source
            z5 = self._one_place(z5)
            t5, t7 = (dist.gather(t) for t in target[1:])
            for name, z, t in (("1_to_5", z1, t5), ("1_to_7", z1, t7), ("5_to_5", z5, t5)):
                found, square = across_scales(z, t, self.clip, dist.rank() * len(z))
                terms[name] = terms.get(name, 0) + found / 2
                terms["penalty"] = terms.get("penalty", 0) + self.penalty * square / 2
        return terms

    def chance(self, x: Tensor, count: int) -> dict[str, float]:
        """The logarithm of the number of candidates of each pair of scales."""
        five, seven = (math.log(1 + (count - 1) * side**2) for side in (5, 7))
        return {"1_to_5": five, "1_to_7": seven, "5_to_5": five}

    def _embedded(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The three scales of a view: (B, D), (B, D, 5, 5), (B, D, 7, 7)."""
        h1, h5, h7 = self.encoder.scales(x)
        return h1, self.embed5(h5), self.embed7(h7)

    def _one_place(self, z: Tensor) -> Tensor:
        """One random place of each image's map: (B, D, 5, 5) to (B, D)."""
        b, _, height, width = z.shape
        drawn = torch.randint(height * width, (b * dist.world_size(),))
        place = dist.mine(drawn).to(z.device)
        return z.flatten(2)[torch.arange(b, device=z.device), :, place]
