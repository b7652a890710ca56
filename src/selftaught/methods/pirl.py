"""PIRL: an image and its jigsaw both look like what is remembered of the image."""

import math

import torch
from torch import Tensor, nn

from selftaught import dist
from selftaught.errors import UserError, above_zero, from_zero_to_one
from selftaught.method import Method, ViewBatch
from selftaught.nn.base import Encoder
from selftaught.nn.memory import Bank, NoiseConstant
from selftaught.objectives.noise import log_partition, noise_contrast, similarities

TILES = 9


class PIRL(Method):
    """Self-Supervised Learning of Pretext-Invariant Representations.

    Misra & van der Maaten 2019, https://arxiv.org/abs/1912.01991, equations 3 to 5. The views are
    the image and the nine tiles of its jigsaw in a random order. A bank holds one unit vector for
    each of the ``count`` images; the feature of the image, and that of the tiles, are each told
    from ``negatives`` entries of other images by the own entry. The terms count (1 - ``mix``) and
    ``mix``; both have the same negatives, drawn anew at each step. The entry moves to the image's
    feature.

    How that is told is the authors' code's (VISSL): InstDisc's noise-contrastive estimation with a
    constant Z, from the first batch. With equation 3's sum over the feature's own similarities,
    which is one reading of it, the term of the negatives would push none of them away on the whole.
    Their code draws negatives anew for either term, and these may be the image itself; it changes
    sharpness, solarises, posterises and stretches contrast, too. Raises UserError for settings
    outside their range, for fewer than two images, and for a batch without its ten views.
    """

    tells_apart = ("image", "jigsaw")
    knows_samples = True

    def __init__(
        self,
        encoder: Encoder,
        *,
        count: int,
        dim: int = 128,
        temperature: float = 0.07,
        negatives: int = 32000,
        momentum: float = 0.5,
        mix: float = 0.5,
    ) -> None:
        super().__init__()
        above_zero(temperature=temperature)
        from_zero_to_one(momentum=momentum, mix=mix)
        if negatives < 1 or count < 2:
            raise UserError(
                f"{negatives} negatives of {count} images; use --negatives with 1 or more, and at "
                "least two images"
            )
        self.encoder = encoder
        self.projector = nn.Linear(encoder.dim, dim)
        self.each = nn.Linear(encoder.dim, dim)  # a tile
        self.all = nn.Linear(TILES * dim, dim)  # the tiles together, in their random order
        self.bank = Bank(count, dim)
        self.constant = NoiseConstant()
        self.count = count
        self.temperature = temperature
        self.negatives = negatives
        self.momentum = momentum
        self.mix = mix

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``image`` and ``jigsaw``, each with its share."""
        if len(batch.views) != 1 + TILES:
            raise UserError(f"{len(batch.views)} views; give the image and its {TILES} tiles")
        image, *tiles = batch.views
        z = self.projector(self.encoder(image))
        index = batch.index.to(z.device)
        self.seen = dist.gather(index), dist.gather(z.detach())
        chosen = torch.cat([index[:, None], self._others(index)], dim=1)  # (B, 1 + K)
        joined = self._scores(self._joined(tiles), chosen)  # (B, 1 + K)
        constant = self.constant.settled(log_partition(joined[:, 1:], self.count))
        terms = {"image": self._scores(z, chosen), "jigsaw": joined}
        share = {"image": 1 - self.mix, "jigsaw": self.mix}
        return {
            name: share[name] * noise_contrast(s[:, 0], s[:, 1:], constant, self.count)
            for name, s in terms.items()
        }

    def _joined(self, tiles: list[Tensor]) -> Tensor:
        parts = self.each(self.encoder(torch.cat(tiles)))  # (9 B, D)
        return self.all(torch.cat(parts.chunk(TILES), dim=1))  # (B, D)

    def _others(self, index: Tensor) -> Tensor:
        """Entries of other images (B, K), equally likely, some perhaps more than once."""
        shape = (len(index) * dist.world_size(), self.negatives)
        drawn = dist.mine(torch.randint(self.count - 1, shape)).to(index.device)
        return drawn + (drawn >= index[:, None])

    def _scores(self, z: Tensor, chosen: Tensor) -> Tensor:
        return similarities(z, self.bank.rows, chosen, self.temperature)

    def chance(self, x: Tensor, count: int) -> dict[str, float]:
        """What a guess by the numbers of entries costs, each term with its share."""
        k = self.negatives
        cost = (k + 1) * math.log(k + 1) - k * math.log(k)
        return {"image": (1 - self.mix) * cost, "jigsaw": self.mix * cost}

    def after_step(self) -> None:
        """Keep the constant, and move the batch's entries towards the images' features."""
        self.constant.keep()
        self.bank.update(*self.seen, momentum=self.momentum)
