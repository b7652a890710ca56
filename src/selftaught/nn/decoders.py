"""From features, or codes, to images of any side."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selftaught.errors import UserError


class Decoder(nn.Module):
    """Maps vectors (B, dim), or maps (B, dim, H, H), to images (B, channels, size, size).

    A stack of transposed convolutions of 4 x 4 that double the side, with batch norm and ReLU
    between them and neither after the last (Radford et al. 2015, DCGAN, arXiv 1511.06434, section
    3; the kernel is that of the authors' dcgan.torch, where their dcgan_code has 5 x 5). The sides
    are ``size`` halved again and again, rounding up, so that those of an encoder that halves are
    met on the way back: of a doubled side that is odd there, the last row and column are left out.
    Where the map is no such half, its doubled map is resized to the next one, so that each place
    stays where it was. A vector first becomes a map of ``side`` pixels.

    Args:
        dim: channels of what is decoded.
        channels: of the image.
        size: side of the image in pixels.
        side: side of the map that the stack begins with; of vectors, 0 takes 4.
        width: channels before the last doubling; twice as many at each doubling before it.
        widest: bound of these channels.
        vector: whether vectors are decoded and not maps.

    Raises UserError for a width below 1.
    """

    def __init__(
        self,
        dim: int,
        channels: int,
        size: int,
        *,
        side: int = 0,
        width: int = 32,
        widest: int = 256,
        vector: bool = True,
    ) -> None:
        super().__init__()
        if min(dim, width, widest) < 1:
            raise UserError(f"a decoder of {dim} and {width} channels; use 1 or more")
        self.side = side or sides(size, 4)[0]
        self.targets = sides(size, self.side)[1:]
        count = max(1, len(self.targets))
        widths = [min(width * 2**i, widest) for i in reversed(range(count))]
        self.begin = (
            nn.Linear(dim, widths[0] * self.side**2, bias=False)
            if vector
            else nn.Conv2d(dim, widths[0], 3, 1, 1, bias=False)
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(w) for w in widths)
        outs = [*widths[1:], channels]
        self.layers = nn.ModuleList(
            nn.ConvTranspose2d(a, b, 4, 2, 1, bias=i == count - 1)
            for i, (a, b) in enumerate(zip(widths, outs, strict=True))
        )
        if not self.targets:
            self.layers = nn.ModuleList([nn.Conv2d(widths[0], channels, 3, 1, 1)])

    def forward(self, z: Tensor) -> Tensor:
        """Images (B, channels, size, size)."""
        x = self.begin(z)
        x = x.unflatten(1, (-1, self.side, self.side)) if x.ndim == 2 else x
        for i, (norm, layer) in enumerate(zip(self.norms, self.layers, strict=True)):
            x = layer(F.relu(norm(x), inplace=True))
            if self.targets:
                x = _trimmed(x, self.targets[i])
        return x


def _trimmed(x: Tensor, side: int) -> Tensor:
    """Maps of this side of maps (B, C, H, W) that are larger: the same places where they were."""
    if x.shape[-1] - side > 1:  # the half was not this side's half
        return F.interpolate(x, (side, side), mode="bilinear")
    return x[:, :, :side, :side]


class Bounded(nn.Module):
    """Any numbers to normalised images that are real ones: each pixel from black to white."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.mean = nn.Buffer(torch.tensor(mean)[:, None, None], persistent=False)
        self.std = nn.Buffer(torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, S, S) of the same shape, normalised by the mean and the deviation."""
        return (torch.sigmoid(x) - self.mean) / self.std


def sides(size: int, least: int) -> list[int]:
    """``size`` and its halves, rounded up, from the first that is at most ``least`` up to it.

    Begins with ``least`` itself where the halves pass it by.
    """
    count = max(0, math.ceil(math.log2(size / least)))
    halves = [-(-size // 2**i) for i in reversed(range(count + 1))]
    return [min(least, size), *halves[1:]] if count else [size]
