"""Guards against chromatic aberration.

A lens magnifies each colour a little differently, and the shift between channels then tells how far
from the image's middle a tile lies: a network could place tiles without looking at what they show.
Images of one channel have nothing to guard.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from selftaught.errors import UserError

CHANNELS = 3


class ShiftParameters(NamedTuple):
    """What `ShiftChannels` draws."""

    shift: Tensor  # (n, 3, 2) long: of each channel, down and across


@dataclass(frozen=True)
class ShiftChannels:
    """Each channel of a colour image moved by up to ``limit`` pixels, its edge repeated.

    Noroozi & Favaro 2016, https://arxiv.org/abs/1603.09246; theirs are two pixels of a tile of 64,
    and what comes in is what lay beside the tile.
    """

    limit: int

    def __post_init__(self) -> None:
        if self.limit < 0:
            raise UserError(f"channels moved by {self.limit} pixels; give a number of at least 0")

    def draw(self, generator: Generator, n: int) -> ShiftParameters:
        """Parameters for n images."""
        bounds, device = (-self.limit, self.limit + 1), generator.device
        shape = (n, CHANNELS, 2)
        return ShiftParameters(torch.randint(*bounds, shape, generator=generator, device=device))

    def apply(self, x: Tensor, parameters: ShiftParameters) -> Tensor:
        """The images x (n, C, H, W) with their channels moved."""
        n, channels, height, width = x.shape
        if channels != CHANNELS or not self.limit:
            return x
        shift = parameters.shift.to(x.device)
        down = (torch.arange(height, device=x.device) - shift[..., :1]).clamp(0, height - 1)
        across = (torch.arange(width, device=x.device) - shift[..., 1:]).clamp(0, width - 1)
        image = torch.arange(n, device=x.device)[:, None, None, None]
        channel = torch.arange(channels, device=x.device)[:, None, None]
        return x[image, channel, down[..., :, None], across[..., None, :]]


class KeepParameters(NamedTuple):
    """What `KeepOneChannel` draws."""

    kept: Tensor  # (n,) long


@dataclass(frozen=True)
class KeepOneChannel:
    """All channels of a colour image but a random one made zero.

    Doersch et al. 2015, https://arxiv.org/abs/1505.05192, section 3.1, "color dropping". Theirs are
    filled with noise of a hundredth of the kept one's deviation; here they show nothing.
    """

    def draw(self, generator: Generator, n: int) -> KeepParameters:
        """Parameters for n images."""
        kept = torch.randint(CHANNELS, (n,), generator=generator, device=generator.device)
        return KeepParameters(kept)

    def apply(self, x: Tensor, parameters: KeepParameters) -> Tensor:
        """The images x (n, C, H, W) with one channel left."""
        if x.shape[1] != CHANNELS:
            return x
        channel = torch.arange(CHANNELS, device=x.device)
        kept = parameters.kept.to(x.device)[:, None] == channel  # (n, C)
        return x * kept[:, :, None, None]


@dataclass(frozen=True)
class Project:
    """The green-magenta axis taken out of a colour image's colours.

    Doersch et al. 2015, https://arxiv.org/abs/1505.05192, section 3.1, "projection": each colour is
    multiplied by I - a^T a / (a a^T) with a = (-1, 2, -1).
    """

    def draw(self, generator: Generator, n: int) -> tuple[()]:
        """Nothing: all images are changed alike."""
        return ()

    def apply(self, x: Tensor, parameters: tuple[()]) -> Tensor:
        """The images x (n, C, H, W) without their component along that axis."""
        if x.shape[1] != CHANNELS:
            return x
        axis = torch.tensor((-1.0, 2.0, -1.0), device=x.device)[:, None, None]
        return x - (x * axis).sum(1, keepdim=True) * axis / 6
