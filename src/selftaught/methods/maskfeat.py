"""MaskFeat: see the image with blocks blanked, and name the directions of their edges."""

import torch
from torch import Tensor, nn

from selftaught.errors import UserError
from selftaught.method import Method, ViewBatch
from selftaught.nn.base import Encoder
from selftaught.nn.hog import patch_hog
from selftaught.nn.masking import blockwise
from selftaught.nn.transformer import ViT, with_tokens
from selftaught.objectives.reconstruction import masked_error


class MaskFeat(Method):
    """Masked Feature Prediction for Self-Supervised Visual Pre-Training.

    Wei et al. 2021, https://arxiv.org/abs/2112.09133, section 3, for images. Blocks of patches are
    hidden; the encoder sees one learned token in the place of each hidden patch; one linear layer
    predicts, from the last tokens, the histograms of oriented gradients of the hidden patches, by
    squared error. A patch has ``cells`` x ``cells`` histograms a channel, taken from the whole
    image before anything is hidden.

    As in the authors' code a histogram is divided by its own norm, not by that of a block of cells,
    and there is none over the channels together. Deviations: those of `blockwise`, and positions
    are fixed sines and cosines.

    Raises UserError for an encoder without tokens, for cells that do not tile a patch and for a
    ratio that hides or leaves nothing.
    """

    fixed_answers = True

    def __init__(
        self,
        encoder: Encoder,
        *,
        ratio: float = 0.4,
        smallest: int = 16,
        cells: int = 2,
        bins: int = 9,
    ) -> None:
        super().__init__()
        encoder = with_tokens(encoder, "maskfeat")
        if not 0 < round(ratio * encoder.length) < encoder.length:
            raise UserError(
                f"a ratio of {ratio} of {encoder.length} patches hides nothing or leaves nothing; "
                "use --ratio 0.4 or smaller patches"
            )
        if cells < 1 or encoder.patch % cells:
            raise UserError(
                f"{cells} x {cells} cells do not tile a patch of {encoder.patch} pixels; use "
                "--cells with a divisor of that"
            )
        if bins < 2 or smallest < 1:
            raise UserError(
                f"{bins} bins, blocks of {smallest}; use --bins from 2 and --smallest-block from 1"
            )
        self.encoder: ViT = encoder
        self.blank = nn.Parameter(torch.randn(encoder.dim) * 0.02)
        channels = encoder.net.patch_embed.proj.in_channels
        self.head = nn.Linear(encoder.dim, channels * bins * cells**2)
        self.ratio, self.smallest, self.cells, self.bins = ratio, smallest, cells, bins

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``histograms``, the error of the hidden patches' histograms."""
        (x,) = batch.views
        target = patch_hog(x, self.encoder.patch, self.cells, self.bins)  # (B, L, P)
        n, length = target.shape[:2]
        hidden = blockwise(
            n, self.encoder.grid, round(self.ratio * length), smallest=self.smallest
        ).to(x.device)  # (B, L)
        prediction = self.head(self.encoder.tokens(x, hidden=hidden, blank=self.blank))
        return {"histograms": masked_error(prediction, target, hidden)}
