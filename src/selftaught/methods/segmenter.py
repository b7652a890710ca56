"""A segmenter with labels: what a learned encoder is transferred to."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.segmentation.fcn import FCNHead

from selftaught.method import VOID, Method, ViewBatch
from selftaught.nn.noise import tossed
from selftaught.nn.pyramid import Pyramid


class Segmenter(Method):
    """Torchvision's fully convolutional head on the feature pyramid of an encoder.

    Long et al. 2014, https://arxiv.org/abs/1411.4038, on the pyramid's maps at the finest stride,
    side by side. The objective is the cross-entropy of each pixel's class: 0 is the background, and
    `VOID` is left out. While training, half of the images are mirrored where ``flip``.
    """

    def __init__(
        self,
        encoder: nn.Module,
        *,
        channels: int,
        size: int,
        classes: int,
        width: int = 64,
        finest: int = 2,
        flip: bool = True,
    ) -> None:
        super().__init__()
        self.pyramid = Pyramid(encoder, channels=channels, size=size, width=width, finest=finest)
        self.flip = 0.5 if flip else 0.0
        self.head = FCNHead(width * len(self.pyramid.strides), classes + 1)

    @property
    def encoder(self) -> nn.Module:  # pyright: ignore
        """The encoder that is trained on."""
        return self.pyramid.encoder

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``cross_entropy``; the second view is the classes (B, 1, S, S) of the first's pixels."""
        x, classes = batch.views
        mirrored = (tossed(len(x)).to(x.device) < self.flip)[:, None, None, None]
        x, classes = (torch.where(mirrored, y.flip(3), y) for y in (x, classes))
        scores = self.scores(x).float()
        known = classes[:, 0].long()
        total = F.cross_entropy(scores, known, ignore_index=VOID, reduction="sum")
        return {"cross_entropy": total / (known != VOID).sum().clamp(min=1)}

    def scores(self, x: Tensor) -> Tensor:
        """Scores of the classes (B, classes + 1, S, S) of images (B, C, S, S)."""
        maps = list(self.pyramid(x).values())
        same = [F.interpolate(y, maps[0].shape[2:], mode="bilinear") for y in maps]
        return F.interpolate(self.head(torch.cat(same, dim=1)), x.shape[2:], mode="bilinear")
