"""Inpainting: see a picture with a hole and paint what is missing."""

from collections.abc import Sequence

import torch
from torch import Tensor

from selftaught.errors import UserError
from selftaught.method import Method, ViewBatch
from selftaught.nn.adversarial import frozen, initialize
from selftaught.nn.base import Encoder
from selftaught.nn.decoders import Bounded, Decoder
from selftaught.nn.encoders import map_side
from selftaught.nn.painting import ChannelwiseLinear, Holes, PictureCritic
from selftaught.objectives.adversarial import deception, discrimination
from selftaught.objectives.painting import hole_regression


class Inpainting(Method):
    """Context Encoders: Feature Learning by Inpainting.

    Pathak et al. 2016, https://arxiv.org/abs/1604.07379, section 3. The hole is filled with the
    mean colour. The encoder's map goes through a channel-wise linear layer and a decoder, which
    paints a window around the hole. The loss is equation 3: the squared error of what is painted,
    and how surprised a critic is that it should be real. Without a weight, ``adversarial``, there
    is no critic: the paper's features are learnt that way. Decoder and critic begin as in the
    authors' code, but for batch norm, whose factors are all one here.

    Deviations: any encoder, with its own beginning; blocks are squares of one size, and holes of
    any shape, the paper's third kind, are not here; the error is that of normalised images, not of
    [-1, 1]; around blocks the critic sees the real pixels, not the painter's; both players move at
    once, not in turn.

    Raises UserError for weights out of range, and for a map that is finer than the window.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        holes: Holes,
        reconstruction: float = 0.999,
        adversarial: float = 0.001,
        width: int = 64,
        critic_width: int = 64,
    ) -> None:
        super().__init__()
        if reconstruction <= 0 or adversarial < 0:
            raise UserError(
                f"weights of {reconstruction} and {adversarial}; use --reconstruction above 0 and "
                "--adversarial from 0"
            )
        channels, side = len(mean), holes.side
        places = map_side(encoder, channels, holes.size)
        if places > side:
            raise UserError(
                f"a map of {places} x {places} places is finer than what is painted, {side} x "
                f"{side}; use a larger --patch, or --hole blocks"
            )
        self.encoder = encoder
        self.holes = holes
        self.spread = ChannelwiseLinear(encoder.dim, places)
        widths = {"width": width, "widest": 8 * width}
        decoder = Decoder(encoder.dim, channels, side, side=places, vector=False, **widths)
        self.decoder = decoder.apply(initialize)
        self.bounded = Bounded(mean, std)
        self.critic = PictureCritic(channels, side, width=critic_width) if adversarial else None
        self.reconstruction, self.adversarial = reconstruction, adversarial

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``reconstruction``, and the two players' ``adversarial`` and ``critic``."""
        (x,) = batch.views
        hidden, weight = (t.to(x.device) for t in self.holes.draw(len(x)))
        real = self._window(x)  # (B, C, W, W)
        painted = self.paint(x, hidden)
        error = hole_regression(painted, real, weight)
        terms = {"reconstruction": self.reconstruction * error}
        if self.critic is not None:
            shown = torch.where(weight > 0, painted, real)
            surprise = deception(frozen(self.critic, shown))
            terms["adversarial"] = self.adversarial * surprise
            terms["critic"] = discrimination(self.critic(real), self.critic(shown.detach()))
        return terms

    def paint(self, x: Tensor, hidden: Tensor) -> Tensor:
        """The window (B, C, W, W) of images (B, C, S, S) without what is hidden (B, 1, S, S)."""
        seen = x.masked_fill(hidden, 0)
        return self.bounded(self.decoder(self.spread(self.encoder.maps(seen))))

    def pictures(self, x: Tensor) -> dict[str, Tensor]:
        """The image with its hole in the mean colour as ``seen``, and the hole ``painted``."""
        hidden = self.holes.draw(len(x))[0].to(x.device)
        whole = x.clone()
        self._window(whole).copy_(self.paint(x, hidden))
        return {"seen": x.masked_fill(hidden, 0), "painted": torch.where(hidden, whole, x)}

    def _window(self, x: Tensor) -> Tensor:
        """What is painted of images, a view of it."""
        return x[:, :, self.holes.window, self.holes.window]
