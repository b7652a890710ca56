"""An encoder with features of three scales, each of which has seen its own place only."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from selftaught.errors import UserError
from selftaught.nn.base import Encoder
from selftaught.nn.encoders import SMALL

NATIVE = (16, 32, 64)  # pixels a side from which convolutions without padding lead to 7 x 7 places


class ResidualConv(nn.Module):
    """A convolution without padding, ReLU, one of 1x1, and a skip that averages what they see.

    The skip has zeros in the channels that it lacks. The second convolution begins at zero, so that
    the block begins as its skip; there is neither norm nor bias.
    """

    def __init__(self, d_in: int, d_out: int, width: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(d_in, d_out, width, stride, bias=False)
        self.conv2 = nn.Conv2d(d_out, d_out, 1, bias=False)
        nn.init.zeros_(self.conv2.weight)
        self.width, self.stride, self.more = width, stride, d_out - d_in

    def forward(self, x: Tensor) -> Tensor:
        """(B, d_in, H, W) to (B, d_out, H', W')."""
        skip = x if self.width == 1 else F.avg_pool2d(x, self.width, self.stride)
        return self.conv2(F.relu(self.conv1(x))) + F.pad(skip, (0, 0, 0, 0, 0, self.more))


def block(d_in: int, d_out: int, width: int, stride: int, depth: int) -> nn.Sequential:
    """``depth`` residual convolutions, the first of the given width, the others of 1x1."""
    others = (ResidualConv(d_out, d_out) for _ in range(depth - 1))
    return nn.Sequential(ResidualConv(d_in, d_out, width, stride), *others)


class AmdimNano(Encoder):
    """The encoder of AMDIM: 7x7, 5x5 and 1x1 features by convolutions without padding.

    Bachman et al. 2019, arXiv 1906.00910, section 3.6, and Encoder in model.py of the authors'
    code (Philip-Bachman/amdim-public), for images of 32, 64 and 128 pixels. ``width`` is its ndf,
    ``dim`` its n_rkhs, ``depth`` its n_depth. Without padding what a place has seen ends where its
    window ends, so that one place cannot know the others.

    Deviations: images of other sizes are reflected at their edges up to 16, 32 or 64 pixels, after
    convolutions of 5x5 that halve larger ones as the authors' of 128 does; images of up to 16
    pixels, which they have none of, skip the first halving block.

    Raises UserError for images too small to reflect, and for a ``dim`` below the local width.
    """

    def __init__(
        self, *, channels: int, size: int, width: int = 32, dim: int = 256, depth: int = 3
    ) -> None:
        super().__init__()
        if min(width, dim, depth) < 1 or size < NATIVE[0] // 2:
            raise UserError(
                f"amdim-nano of width {width}, dim {dim} and depth {depth} for {size} pixels; give "
                f"at least 1 each, and --size {NATIVE[0] // 2} or more"
            )
        shrink: list[nn.Module] = []
        while size > SMALL:
            conv = nn.Conv2d(channels, width, 5, 2, 2, padding_mode="reflect")
            shrink += [conv, nn.ReLU()]
            channels, size = width, (size + 1) // 2
        native = next(side for side in NATIVE if side >= size)
        spare = native - size
        self.dim = dim
        self.local = width * native // 8  # channels at 7x7 and 5x5
        if dim < self.local:
            raise UserError(
                f"a --dim of {dim} below the {self.local} channels of the local features; use "
                f"--dim {self.local} or a smaller --width"
            )
        before = spare // 2
        self.pad = (before, spare - before, before, spare - before)
        self.shrink = nn.Sequential(*shrink)
        self.stem = nn.Sequential(nn.Conv2d(channels, width, 3), nn.ReLU())
        to7: list[nn.Module] = [ResidualConv(width, width)] if native < SMALL else []
        while width < self.local // 2:
            to7.append(block(width, 2 * width, 4, 2, depth))
            width *= 2
        self.to7 = nn.Sequential(*to7, block(width, self.local, 2, 2, depth))
        self.to5 = block(self.local, self.local, 3, 1, depth)
        self.to1 = nn.Sequential(
            block(self.local, self.local, 3, 1, depth), ResidualConv(self.local, dim, 3)
        )
        self.norm = nn.BatchNorm2d(dim)

    @property
    def feature(self) -> str:
        """Which feature ``forward`` returns, in words."""
        return "the one feature that has seen the whole image, normalised"

    def scales(
        self, x: Float[Tensor, "b c s s"]
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, "b e 5 5"], Float[Tensor, "b e 7 7"]]:
        """The features of the whole image, and those of 5x5 and 7x7 places."""
        x = F.pad(self.shrink(x), self.pad, mode="reflect")
        h7 = self.to7(self.stem(x))
        h5 = self.to5(h7)
        return self.norm(self.to1(h5)).flatten(1), h5, h7

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, dim) of the whole image."""
        return self.scales(x)[0]


class PlaceEmbedding(nn.Module):
    """Local features in the space where scores are taken (FakeRKHSConvNet in the authors' code).

    A perceptron at each place that begins at zero, beside a linear map that begins near the
    identity, and a batch norm of both.
    """

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__()
        self.hidden = nn.Conv2d(d_in, d_out, 1, bias=False)
        self.out = nn.Conv2d(d_out, d_out, 1, bias=False)
        self.skip = nn.Conv2d(d_in, d_out, 1)
        self.norm = nn.BatchNorm2d(d_out)
        nn.init.zeros_(self.out.weight)
        nn.init.uniform_(self.skip.weight, -0.01, 0.01)
        with torch.no_grad():
            self.skip.weight[range(d_in), range(d_in)] = 1.0

    def forward(self, x: Float[Tensor, "b e h w"]) -> Float[Tensor, "b d h w"]:
        """One vector a place."""
        return self.norm(self.out(F.relu(self.hidden(x))) + self.skip(x))
