"""Colorization: from how light an image's places are, tell their colours."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from selftaught.errors import UserError, above_zero, from_zero_to_one
from selftaught.method import Method, ViewBatch
from selftaught.nn.colour import ColourBins, Lightness
from selftaught.nn.decoders import Decoder
from selftaught.nn.encoders import map_side
from selftaught.objectives.colour import colour_prediction

GRAY = 5  # an image none of whose a and b are further from zero has no colours


class Colorization(Method):
    """Colorful Image Colorization.

    Zhang, Isola, Efros 2016, https://arxiv.org/abs/1603.08511, section 2. The encoder sees L of
    CIE Lab; a decoder scores bins of a and b at every ``stride``-th pixel, by equation 2 with the
    soft targets of section 2.1 and the weights of equations 3 and 4, and pictures are coloured by
    the annealed mean of equation 5. The prior of the weights is measured by a `survey` of all
    images before the first step; without one all bins count alike. As in the authors' code, images
    without colours count nothing and the prior is the mean of the soft targets, which smooths it by
    the same Gaussian.

    Deviations: any encoder and a decoder of transposed convolutions instead of the authors'
    network; the loss is the mean over places, not their sum; where the encoder's map is finer than
    the stride asks for, colours are told at its places.

    Raises UserError for settings out of range, and where no image has colours.
    """

    def __init__(
        self,
        encoder: Lightness,
        *,
        size: int,
        stride: int = 4,
        width: int = 256,
        grid: float = 10,
        sigma: float = 5,
        mix: float = 0.5,
        temperature: float = 0.38,
    ) -> None:
        super().__init__()
        if not 1 <= stride <= size:
            raise UserError(f"colours at every {stride}th of {size} pixels; use --stride from 1")
        above_zero(mix=mix, temperature=temperature)
        from_zero_to_one(mix=mix)
        self.encoder: Lightness = encoder
        self.bins = ColourBins(grid=grid, sigma=sigma)
        found = map_side(encoder, 3, size)
        self.side = max(-(-size // stride), found)
        self.decoder = Decoder(
            encoder.dim, len(self.bins), self.side, side=found, width=width, vector=False
        )
        self.mix = mix
        self.temperature = temperature

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``colours``, the rebalanced prediction of the places' colours."""
        lab = self.encoder.lab(batch.views[0])  # (B, 3, S, S)
        ab = self._colours(lab)  # (B, 2, G, G)
        bins, shares = self.bins.encode(ab)  # (B, K, G, G)
        weight = self.bins.weight[bins[:, 0]] * coloured(ab)[:, None, None]  # (B, G, G)
        scores = self.decoder(self.encoder.maps_of(lab))  # (B, Q, G, G)
        return {"colours": colour_prediction(scores, bins, shares, weight)}

    def survey(self, whole: Iterable[ViewBatch]) -> None:
        """Measure how frequent the colours are, and weight them by it."""
        prior = torch.zeros(len(self.bins), dtype=torch.float64, device=self.bins.weight.device)
        any_colours = False
        for batch in whole:
            ab = self._colours(self.encoder.lab(batch.views[0]))
            bins, shares = self.bins.encode(ab)
            prior.index_add_(0, bins.flatten(), shares.flatten().double())
            any_colours = any_colours or bool(coloured(ab).any())
        if not any_colours:
            raise UserError(
                "all images are gray, so there are no colours to predict; give images in colour, "
                "or take another method"
            )
        self.bins.rebalance(prior / prior.sum(), self.mix)

    def pictures(self, x: Tensor) -> dict[str, Tensor]:
        """``gray``, what the encoder sees, and ``coloured``, the same in the colours it tells."""
        lab = self.encoder.lab(x)
        ab = self.bins.decode(self.decoder(self.encoder.maps_of(lab)), self.temperature)
        ab = F.interpolate(ab, size=x.shape[2:], mode="bilinear")
        found = {"gray": torch.zeros_like(ab), "coloured": ab}
        return {
            name: self.encoder.lab.image(torch.cat([lab[:, :1], colours], dim=1))
            for name, colours in found.items()
        }

    def _colours(self, lab: Tensor) -> Tensor:
        """a and b (B, 2, G, G) of the pixels in the middle of the places; no colours are mixed."""
        return F.interpolate(lab[:, 1:], size=(self.side, self.side), mode="nearest-exact")


def coloured(ab: Tensor) -> Tensor:
    """Which images (B,) of a and b (B, 2, G, G) have colours."""
    return (ab.abs() > GRAY).flatten(1).any(dim=1)
