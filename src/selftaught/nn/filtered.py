"""Encoders that see what a fixed filter leaves of an image."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from selftaught.nn.base import Encoder


class Filtered(Encoder):
    """Sees what `seen` leaves of images: the encoder inside is given that."""

    sees: str  # what that is, in words

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.dim, self.any_size = encoder.dim, encoder.any_size
        self.dynamic = encoder.dynamic

    @property
    def feature(self) -> str:
        """Which feature ``forward`` returns, in words."""
        return f"{self.encoder.feature}, of {self.sees}"

    def seen(self, x: Tensor) -> Tensor:
        """What is left of normalised images (B, C, S, S): (B, C', S, S)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, dim) of images (B, C, S, S)."""
        return self.encoder(self.seen(x))

    def maps(self, x: Tensor) -> Tensor:
        """Features of places (B, dim, H, W)."""
        return self.encoder.maps(self.seen(x))

    def levels(self, x: Tensor) -> list[Tensor]:
        """Features of places at several depths (B, D, H, W)."""
        return self.encoder.levels(self.seen(x))


class Sobel(Filtered):
    """Sees how grey changes to the right and downwards, and nothing of colours.

    Before the networks of DeepCluster (Caron et al. 2018, arXiv 1807.05520, section 3.3), "to
    remove color and increase local contrast"; the kernels, on the mean of the channels of
    normalised images and with zeros around them, are those of the authors' code. The encoder inside
    has two channels.
    """

    sees = "its grey edges"

    def __init__(self, encoder: Encoder) -> None:
        super().__init__(encoder)
        across = torch.tensor([[1.0, 0, -1], [2, 0, -2], [1, 0, -1]])
        self.kernels = nn.Buffer(torch.stack([across, across.T])[:, None], persistent=False)

    def seen(self, x: Float[Tensor, "n c s s"]) -> Float[Tensor, "n 2 s s"]:
        """Both changes of grey."""
        return F.conv2d(x.mean(dim=1, keepdim=True), self.kernels.to(x.dtype), padding=1)
