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

    Noroozi & Favaro 2016, https://arxiv.org/abs/1603.09246, section 4.2; theirs are two pixels of a
    tile of 64, and what comes in is what lay beside the tile.
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
