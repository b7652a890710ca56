"""A residual net for small images and a processor without a GPU."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from selftaught.errors import UserError
from selftaught.nn.base import Encoder


class Conv3x3(nn.Conv2d):
    """A 3x3 convolution without bias that is one matrix product where the map is tiny.

    On a processor, the backward pass of a convolution over a map of 3 x 3 takes more than twice as
    long as that of the same product of matrices. Where the result is a single pixel, that of
    PyTorch 2.14 is wrong too: in bfloat16 and with a stride of 2, it leaves the gradient of those
    weights that saw only padding as it finds it in memory.
    """

    TINY = 4  # pixels a side
    FEW = 256  # images; of many, as of patches, the convolution is quicker

    def __init__(self, d_in: int, d_out: int, stride: int = 1) -> None:
        super().__init__(d_in, d_out, 3, stride, 1, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """(B, d_in, H, W) to (B, d_out, H / stride, W / stride)."""
        if torch.compiler.is_exporting():  # a graph for any number of images cannot choose by it
            return super().forward(input)
        step = self.stride[0]
        height, width = ((side - 1) // step + 1 for side in input.shape[2:])
        largest = max(height, width)
        tiny = largest <= self.TINY and (len(input) <= self.FEW or largest == 1)
        if input.device.type != "cpu" or not tiny:
            return super().forward(input)
        x = F.pad(input, (1, 1, 1, 1)).permute(0, 2, 3, 1)  # (B, H + 2, W + 2, d_in)
        rows, columns = step * (height - 1) + 1, step * (width - 1) + 1
        seen = [
            x[:, i : i + rows : step, j : j + columns : step] for i in range(3) for j in range(3)
        ]
        weight = self.weight.permute(0, 2, 3, 1).flatten(1)  # (d_out, 9 d_in)
        return F.linear(torch.cat(seen, dim=-1), weight).permute(0, 3, 1, 2)


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
            raise UserError(f"a stride of {stride}; use --stride with one of {fits}")
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
