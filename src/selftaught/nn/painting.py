"""Holes in pictures, and networks that fill them: what spreads features, and a critic."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from selftaught.errors import UserError, above_zero
from selftaught.nn.adversarial import DCGANCritic, initialize
from selftaught.nn.masking import squares


@dataclass(frozen=True)
class Holes:
    """Where pictures of ``size`` pixels have a hole, and which window of them is painted.

    Context encoders (Pathak et al. 2016, arXiv 1604.07379), section 3.3. Of the ``centre``, half of
    the picture's side, the window is the hole and ``overlap`` pixels of what lies around it, which
    count ``rim_weight`` times, as in the authors' code. Of ``blocks``, which hide up to ``share``
    of the picture, the window is the whole picture and only the hole counts.

    Raises UserError for settings out of range.
    """

    size: int
    kind: Literal["centre", "blocks"] = "blocks"
    blocks: int = 4
    share: float = 0.25
    overlap: int = 4
    rim_weight: float = 10.0

    def __post_init__(self) -> None:
        if self.kind not in ("centre", "blocks"):
            raise UserError(f"no hole named {self.kind!r}; use --hole centre or blocks")
        if self.blocks < 1 or not 0 < self.share < 1:
            raise UserError(
                f"{self.blocks} blocks of {self.share} of the picture; use --blocks from 1 and "
                "--share above 0 and below 1"
            )
        if self.kind == "blocks" and self.block >= self.size:
            raise UserError(
                f"{self.blocks} blocks of {self.share} of the picture leave nothing of {self.size} "
                "pixels; use a smaller --share or more --blocks"
            )
        if self.kind == "centre" and not 0 <= 2 * self.overlap < self.side:
            raise UserError(
                f"a rim of {self.overlap} pixels leaves no hole in a window of {self.side}; use "
                f"--overlap from 0 and below {self.side / 2:g}"
            )
        above_zero(rim_weight=self.rim_weight)

    @property
    def block(self) -> int:
        """Pixels a side of a block."""
        return max(1, round(self.size * (self.share / self.blocks) ** 0.5))

    @property
    def side(self) -> int:
        """Pixels a side of what is painted."""
        return self.size // 2 if self.kind == "centre" else self.size

    @property
    def window(self) -> slice:
        """The rows, and the columns, of what is painted."""
        start = (self.size - self.side) // 2
        return slice(start, start + self.side)

    def draw(self, n: int) -> tuple[Bool[Tensor, "n 1 s s"], Float[Tensor, "n 1 w w"]]:
        """What is hidden, and how much each pixel of the window counts.

        Drawn for the global batch.
        """
        if self.kind == "blocks":
            hidden = squares(n, self.size, self.block, self.blocks).view(n, 1, self.size, self.size)
            return hidden, hidden.float()
        hidden = torch.zeros(n, 1, self.size, self.size, dtype=torch.bool)
        inner = slice(self.window.start + self.overlap, self.window.stop - self.overlap)
        hidden[:, :, inner, inner] = True
        inside = hidden[:, :, self.window, self.window].float()
        return hidden, inside + (1 - inside) * self.rim_weight


class ChannelwiseLinear(nn.Module):
    """Connects all places of a map, each channel with itself alone.

    Context encoders (Pathak et al. 2016, arXiv 1604.07379), section 3.1, "Channel-wise
    fully-connected layer": so a hole's places learn of places that no convolution reaches.
    """

    def __init__(self, dim: int, side: int) -> None:
        super().__init__()
        places = side**2
        bound = places**-0.5
        self.weight = nn.Parameter(torch.empty(dim, places, places).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(dim, places))

    def forward(self, x: Float[Tensor, "n c s s"]) -> Float[Tensor, "n c s s"]:
        """The same shape."""
        places = x.flatten(2).transpose(0, 1)  # (C, N, P)
        y = places @ self.weight + self.bias[:, None]
        return y.transpose(0, 1).unflatten(2, x.shape[2:])


class PictureCritic(nn.Sequential):
    """Says how real pictures (B, C, S, S) look: logits (B,).

    DCGAN's critic and one number of all places of its map, as in the authors' code of arXiv
    1604.07379. Raises UserError for a width below 1.
    """

    def __init__(self, channels: int, side: int, *, width: int = 64, widest: int = 512) -> None:
        if width < 1:
            raise UserError(f"a critic of {width} channels; use --critic-width with 1 or more")
        trunk = DCGANCritic(channels=channels, size=side, width=width, widest=widest)
        left = side // 2 ** sum(isinstance(layer, nn.Conv2d) for layer in trunk.layers)
        score = nn.Conv2d(trunk.dim, 1, left).apply(initialize)
        super().__init__(trunk.layers, score, nn.Flatten(0))
