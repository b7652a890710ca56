"""A residual net for small images and a processor without a GPU."""

import math
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selftaught.errors import UserError
from selftaught.nn.base import Encoder


class Conv3x3(nn.Conv2d):
    """A 3x3 convolution without bias that leaves out the padding where the map is tiny.

    Where the result has 3 x 3 pixels, 32 of 81 products are with padding. Here places that see the
    same part of the kernel share one matrix product; above all the backward pass is quicker so on a
    processor. Where the result is a single pixel, that of PyTorch 2.14 is wrong, too: in bfloat16
    and with a stride of 2, it leaves the gradient of those weights that saw only padding as it
    finds it in memory.
    """

    TINY = 4  # pixels a side
    WORTH = 64  # images from which on that is quicker
    MANY = 256  # images up to which it is quicker in bfloat16

    def __init__(self, d_in: int, d_out: int, stride: int = 1) -> None:
        super().__init__(d_in, d_out, 3, stride, 1, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """(B, d_in, H, W) to (B, d_out, H / stride, W / stride)."""
        if torch.compiler.is_exporting():  # a graph for any number of images cannot choose by it
            return super().forward(input)
        largest, count = (max(input.shape[2:]) - 1) // self.stride[0] + 1, len(input)
        worth = count >= self.WORTH and (count <= self.MANY or input.dtype == torch.float32)
        if input.device.type == "cpu" and (largest == 1 or (worth and largest <= self.TINY)):
            return self._products(input)
        return super().forward(input)

    def _products(self, input: Tensor) -> Tensor:
        height, width = input.shape[2:]
        step = self.stride[0]
        pixels = input.permute(0, 2, 3, 1).flatten(1, 2).unbind(1)  # (B, d_in) each
        taps = self.weight.to(input.dtype).permute(2, 3, 0, 1).flatten(0, 1).unbind(0)
        made: dict[tuple[int, int], Tensor] = {}
        for (tall, down), (wide, across) in product(_alike(height, step), _alike(width, step)):
            places, seen = list(product(down, across)), list(product(tall, wide))
            corners = [(step * i - 1, step * j - 1) for i, j in places]
            x = [[pixels[(i + a) * width + j + b] for i, j in corners] for a, b in seen]
            weight = torch.cat([taps[3 * a + b] for a, b in seen], dim=1)  # (d_out, seen d_in)
            y = F.linear(torch.cat([torch.cat(of) for of in x], dim=1), weight)
            made |= zip(places, y.chunk(len(places)), strict=True)
        y = torch.stack([made[place] for place in sorted(made)], dim=1)  # (B, places, d_out)
        size = ((height - 1) // step + 1, (width - 1) // step + 1)
        return y.unflatten(1, size).permute(0, 3, 1, 2)


def _alike(side: int, step: int) -> list[tuple[tuple[int, ...], list[int]]]:
    """Parts of a kernel of 3 that lie inside the map, each with the places where they do."""
    found: dict[tuple[int, ...], list[int]] = {}
    for place in range((side - 1) // step + 1):
        inside = tuple(tap for tap in range(3) if 0 <= step * place + tap - 1 < side)
        found.setdefault(inside, []).append(place)
    return list(found.items())


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a skip (He et al. 2015, arXiv 1512.03385, figure 2)."""

    def __init__(self, d_in: int, d_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = Conv3x3(d_in, d_out, stride)
        self.norm1 = nn.BatchNorm2d(d_out)
        self.conv2 = Conv3x3(d_out, d_out)
        self.norm2 = nn.BatchNorm2d(d_out)
        self.skip = nn.Sequential(nn.Conv2d(d_in, d_out, 1, stride, bias=False))
        self.skip.append(nn.BatchNorm2d(d_out))

    def forward(self, x: Tensor) -> Tensor:
        """(B, d_in, H, W) to (B, d_out, H / stride, W / stride)."""
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        return F.relu(self.norm2(self.conv2(y)) + self.skip(x), inplace=True)


class ResNetNano(Encoder):
    """A residual net for images of 8 to 64 pixels: a 3x3 stem at full size, then blocks that halve.

    Wide where the image is small, so that most of its arithmetic is in matrices large enough for a
    processor's matrix unit. With a ``stride`` of 1, 2 or 4 only the first blocks halve; None lets
    all of them. Raises UserError for a stride that they cannot make.
    """

    any_size = True

    def __init__(
        self,
        *,
        channels: int,
        stem: int = 32,
        widths: tuple[int, ...] = (64, 128, 256),
        stride: int | None = None,
    ) -> None:
        super().__init__()
        if stride is None:
            stride = 2 ** len(widths)
        strides = [2 if 2**i < stride else 1 for i in range(len(widths))]
        if math.prod(strides) != stride:
            fits = ", ".join(str(2**i) for i in range(len(widths) + 1))
            raise UserError(f"a stride of {stride}; use --stride with one of {fits}, or vit-nano")
        self.stem = Conv3x3(channels, stem)
        self.norm = nn.BatchNorm2d(stem)
        dims = (stem, *widths)
        self.blocks = nn.Sequential(
            *(ResidualBlock(a, b, s) for a, b, s in zip(dims, widths, strides, strict=False))
        )
        self.dim = dims[-1]

    @property
    def feature(self) -> str:
        """Which feature ``forward`` returns, in words."""
        return "the mean over the places of the last block"

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, dim), the mean over places."""
        return self.maps(x).mean(dim=(2, 3))

    def maps(self, x: Tensor) -> Tensor:
        """Features of places (B, dim, H, W), where each halving of the side is rounded up."""
        return self.blocks(F.relu(self.norm(self.stem(x)), inplace=True))

    def levels(self, x: Tensor) -> list[Tensor]:
        """The map after each block."""
        found = [F.relu(self.norm(self.stem(x)), inplace=True)]
        for block in self.blocks:
            found.append(block(found[-1]))
        return found[1:]
