"""Random numbers inside a forward pass, and the destruction of a part of what is seen.

All are drawn for the global batch, from the default generator, so that several processes draw what
one would have drawn.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from selftaught import dist
from selftaught.errors import from_zero, from_zero_to_one
from selftaught.nn.masking import random_split


def normal(x: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
    """Standard normal numbers in the shape of x, one row a sample."""
    return dist.mine(torch.randn(len(x) * dist.world_size(), *x.shape[1:])).to(x)


def tossed(n: int) -> Float[Tensor, " n"]:
    """Uniform numbers from 0 to 1, one a sample, on the CPU."""
    return dist.mine(torch.rand(n * dist.world_size()))


def chosen(x: Float[Tensor, "n ..."], ratio: float) -> Bool[Tensor, "n ..."]:
    """Exactly ``ratio`` of each sample's numbers, each as likely as any other."""
    flat = x.flatten(1)
    _, places = random_split(len(flat), flat.shape[1], ratio, x.device)
    none = torch.zeros_like(flat, dtype=torch.bool)
    return none.scatter_(1, places, True).view(x.shape)


class Masking(nn.Module):
    """Blackens a fixed share of each image's numbers, chosen at random.

    Vincent et al. 2008, Extracting and Composing Robust Features with Denoising Autoencoders,
    section 2.3. Each channel of a pixel is a number of its own. ``black`` is what black is in each
    channel. Raises UserError for a ratio that is not from 0 to 1.
    """

    def __init__(self, ratio: float, black: Sequence[float]) -> None:
        super().__init__()
        from_zero_to_one(ratio=ratio)
        self.ratio = ratio
        self.black = nn.Buffer(torch.tensor(black)[:, None, None], persistent=False)

    def forward(self, x: Float[Tensor, "n c s s"]) -> Float[Tensor, "n c s s"]:
        """The images without the chosen numbers."""
        return torch.where(chosen(x, self.ratio), self.black.to(x.dtype), x)


class SaltAndPepper(nn.Module):
    """Turns a fixed share of each image's numbers black or white, by the toss of a fair coin.

    Vincent et al. 2010, Stacked Denoising Autoencoders (JMLR 11), section 3.3. Otherwise as
    `Masking`.
    """

    def __init__(self, ratio: float, black: Sequence[float], white: Sequence[float]) -> None:
        super().__init__()
        from_zero_to_one(ratio=ratio)
        self.ratio = ratio
        self.black = nn.Buffer(torch.tensor(black)[:, None, None], persistent=False)
        self.white = nn.Buffer(torch.tensor(white)[:, None, None], persistent=False)

    def forward(self, x: Float[Tensor, "n c s s"]) -> Float[Tensor, "n c s s"]:
        """The images with black and white numbers at the chosen places."""
        coins = dist.mine(torch.rand(len(x) * dist.world_size(), *x.shape[1:])) < 0.5
        noise = torch.where(coins.to(x.device), self.black, self.white)
        return torch.where(chosen(x, self.ratio), noise.to(x.dtype), x)


class Gaussian(nn.Module):
    """Adds Gaussian noise of a standard ``deviation`` to each number.

    Vincent et al. 2010, section 3.3. Raises UserError for a negative deviation.
    """

    def __init__(self, deviation: float) -> None:
        super().__init__()
        from_zero(deviation=deviation)
        self.deviation = deviation

    def forward(self, x: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
        """The noisy images."""
        return x + self.deviation * normal(x)
