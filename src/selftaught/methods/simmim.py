"""SimMIM: see the image with large squares blanked, and name their pixels."""

import math

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from selftaught.errors import UserError
from selftaught.method import Method, ViewBatch
from selftaught.nn.base import Encoder
from selftaught.nn.masking import unitwise
from selftaught.nn.transformer import ViT, begin_small, with_tokens
from selftaught.objectives.reconstruction import masked_distance


class SimMIM(Method):
    """SimMIM: A Simple Framework for Masked Image Modeling.

    Xie et al. 2021, https://arxiv.org/abs/2111.09886, section 3. Squares of ``unit`` x ``unit``
    patches are hidden at random; the encoder sees one learned token in the place of each hidden
    patch; one linear layer predicts the hidden pixels from the last tokens, by L1. The encoder
    begins as that of the authors' code does, see `begin_small`.

    Deviations: the encoder is a ViT whose positions are fixed sines and cosines, where the paper's
    ViT has learned relative ones and its main encoder is a Swin transformer; no layer scale, no
    drop path.

    Raises UserError for an encoder without tokens, for squares that do not tile the image and for a
    ratio that hides or leaves nothing.
    """

    fixed_answers = True

    def __init__(self, encoder: Encoder, *, ratio: float = 0.6, unit: int = 2) -> None:
        super().__init__()
        encoder = with_tokens(encoder, "simmim")
        if unit < 1 or encoder.grid % unit:
            raise UserError(
                f"squares of {unit} x {unit} patches do not tile {encoder.grid} x {encoder.grid}; "
                "use --unit with a divisor of that"
            )
        units = (encoder.grid // unit) ** 2
        if not 0 < math.ceil(units * ratio) < units:
            raise UserError(
                f"a ratio of {ratio} of {units} squares hides nothing or leaves nothing; "
                "use --ratio 0.6, smaller patches or a smaller --unit"
            )
        begin_small(encoder)
        self.encoder: ViT = encoder
        self.blank = nn.Parameter(torch.randn(encoder.dim) * 0.02)
        channels = encoder.net.patch_embed.proj.in_channels
        self.pixels = nn.Linear(encoder.dim, encoder.patch**2 * channels)
        self.ratio, self.unit = ratio, unit

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``reconstruction`` of the hidden patches' pixels."""
        (x,) = batch.views
        hidden, painted = self._painted(x)
        return {"reconstruction": masked_distance(painted, self.encoder.patches(x), hidden)}

    def pictures(self, x: Tensor) -> dict[str, Tensor]:
        """What is ``seen`` of the images, hidden patches grey, and the ``reconstruction``."""
        hidden, painted = self._painted(x)
        patches, blanked = self.encoder.patches(x), hidden.unsqueeze(-1)
        return {
            "seen": self.encoder.images(patches.masked_fill(blanked, 0)),
            "reconstruction": self.encoder.images(torch.where(blanked, painted, patches)),
        }

    def _painted(self, x: Tensor) -> tuple[Bool[Tensor, "n l"], Tensor]:
        """What is hidden, and what is predicted of each patch (B, L, P)."""
        hidden = unitwise(len(x), x.shape[-1] // self.encoder.patch, self.unit, self.ratio)
        hidden = hidden.to(x.device)
        tokens = self.encoder.tokens(x, hidden=hidden, blank=self.blank)  # (B, L, D)
        return hidden, self.pixels(tokens)
