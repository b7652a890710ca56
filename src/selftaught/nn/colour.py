"""Colours as people see them: CIE Lab, its bins, and an encoder that sees lightness alone."""

import functools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from selftaught.errors import UserError
from selftaught.nn.base import Encoder
from selftaught.nn.filtered import Filtered
from selftaught.nn.memory import Memory
from selftaught.precision import float32

# The light of red, green and blue in X, Y and Z, over those of white: sRGB (IEC 61966-2-1), D65.
XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
WHITE = (0.95047, 1.0, 1.08883)
FURTHEST = 108  # no colour of sRGB has a or b further from zero
KNEE = 6 / 29  # below its cube the cube root is a line


@float32
def rgb_to_lab(rgb: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """sRGB in [0, 1] as lightness L from 0 to 100, a (green to red) and b (blue to yellow).

    CIE 15 with the white of sRGB; equals scikit-image's ``rgb2lab``.
    """
    curved = ((rgb.clamp(min=0.04) + 0.055) / 1.055) ** 2.4
    light = torch.where(rgb > 0.04045, curved, rgb / 12.92)
    t = torch.einsum("ck,nkhw->nchw", _xyz(rgb), light)
    f = torch.where(t > KNEE**3, t.clamp(min=1e-3) ** (1 / 3), t / (3 * KNEE**2) + 4 / 29)
    x, y, z = f.unbind(1)
    return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1)


@float32
def lab_to_rgb(lab: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
    """The inverse of `rgb_to_lab`; colours that sRGB doesn't have are clipped to [0, 1]."""
    lightness, a, b = lab.unbind(1)
    y = (lightness + 16) / 116
    f = torch.stack([y + a / 500, y, y - b / 200], dim=1)
    t = torch.where(f > KNEE, f**3, (f - 4 / 29) * 3 * KNEE**2)
    light = torch.einsum("ck,nkhw->nchw", torch.linalg.inv(_xyz(lab)), t)
    curved = 1.055 * light.clamp(min=1e-3) ** (1 / 2.4) - 0.055
    return torch.where(light > 0.0031308, curved, 12.92 * light).clamp(0, 1)


def _xyz(like: Tensor) -> Tensor:
    rows = (
        torch.tensor(XYZ, dtype=torch.float64) / torch.tensor(WHITE, dtype=torch.float64)[:, None]
    )
    return rows.to(like)


class Lab(nn.Module):
    """Normalised colour images as Lab, and Lab as normalised images."""

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.mean = nn.Buffer(torch.tensor(mean)[:, None, None], persistent=False)
        self.std = nn.Buffer(torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, x: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
        """L, a and b of normalised images."""
        return rgb_to_lab((x * self.std + self.mean).clamp(0, 1))

    def image(self, lab: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 h w"]:
        """Normalised images."""
        return (lab_to_rgb(lab) - self.mean) / self.std


class Lightness(Filtered):
    """Sees how light the places of a colour image are and nothing of their colours.

    Is given normalised colour images; the encoder inside has one channel, L from -1 to 1.
    """

    sees = "the image's lightness"

    def __init__(self, encoder: Encoder, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__(encoder)
        if not len(mean) == len(std) == 3:
            raise UserError(
                f"images of {len(mean)} channel{'s' * (len(mean) > 1)} have no colours to predict; "
                "give images in colour, or take another method, inpainting for one"
            )
        self.lab = Lab(mean, std)

    def seen(self, x: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n 1 s s"]:
        """The lightness, from -1 to 1."""
        return self._lightness(self.lab(x))

    def maps_of(self, lab: Float[Tensor, "n 3 s s"]) -> Float[Tensor, "n d h w"]:
        """Features of places of images that are Lab already."""
        return self.encoder.maps(self._lightness(lab))

    @staticmethod
    def _lightness(lab: Tensor) -> Tensor:
        return lab[:, :1] / 50 - 1


class ColourBins(Memory):
    """Colours (a, b) as shares of a few bins, and how much each bin counts in an objective.

    Colorization (Zhang et al. 2016, arXiv 1603.08511), sections 2.1 to 2.3. A colour has shares of
    its five nearest bins, each by a Gaussian of its distance; the authors' code takes ten. Bins
    count alike until `rebalance` is told how frequent they are.

    Raises UserError for a grid or a deviation out of range.
    """

    NEAREST = 5

    def __init__(self, *, grid: float = 10, sigma: float = 5) -> None:
        super().__init__()
        if not 5 <= grid <= 50 or sigma <= 0:
            raise UserError(
                f"bins of {grid} by {grid} with a deviation of {sigma}; use --grid from 5 to 50 "
                "and --sigma above 0"
            )
        points = gamut(grid)
        self.zero = len(points) // 2  # the place of (0, 0) in rows and columns
        centres = (points.nonzero() - self.zero) * float(grid)
        table = points.long().flatten().cumsum(0).view_as(points) - 1
        self.centres = nn.Buffer(centres, persistent=False)  # (Q, 2)
        self.table = nn.Buffer(table.where(points, -1), persistent=False)  # bins by their places
        self.weight = nn.Buffer(torch.ones(len(centres)))  # (Q,)
        self.grid, self.sigma = grid, sigma

    def __len__(self) -> int:
        return len(self.centres)

    @torch.no_grad()
    @float32
    def encode(
        self, ab: Float[Tensor, "n 2 h w"]
    ) -> tuple[Int[Tensor, "n k h w"], Float[Tensor, "n k h w"]]:
        """The nearest bins of each place, the very nearest first, and their shares.

        They are among the 5 x 5 points around the colour: a square with a colour inside has a
        neighbour, so five bins are within 2.24 squares, and every other point is 2.5 away.
        """
        near = torch.arange(-2, 3, device=ab.device)
        place = (ab / self.grid).round().long() + self.zero  # (N, 2, H, W)
        rows, columns = (place[:, i, ..., None] + near for i in range(2))  # (N, H, W, 5)
        found = self.table[rows[..., :, None], columns[..., None, :]].flatten(-2)  # (N, H, W, 25)
        centres = self.centres.to(ab)[found]  # (N, H, W, 25, 2)
        square = (centres - ab.permute(0, 2, 3, 1).unsqueeze(-2)).square().sum(dim=-1)
        square, chosen = square.masked_fill(found < 0, torch.inf).topk(self.NEAREST, largest=False)
        shares = (-square / (2 * self.sigma**2)).softmax(dim=-1)
        bins = found.gather(-1, chosen)
        return bins.permute(0, 3, 1, 2), shares.permute(0, 3, 1, 2)

    @float32
    def decode(
        self, scores: Float[Tensor, "n q h w"], temperature: float
    ) -> Float[Tensor, "n 2 h w"]:
        """The annealed mean of scored bins, equation 5: from the mean at 1 to the mode near 0."""
        shares = (scores / temperature).softmax(dim=1)
        return torch.einsum("nqhw,qc->nchw", shares, self.centres.to(shares))

    @torch.no_grad()
    def rebalance(self, prior: Float[Tensor, " q"], mix: float) -> None:
        """Let rare bins count more, equation 4: with ``mix`` of a uniform prior in theirs.

        In the mean over the prior, a bin's weight is one.
        """
        rare = 1 / ((1 - mix) * prior + mix / len(prior))
        self.weight.copy_(rare / (prior * rare).sum())


@functools.cache
def gamut(grid: float) -> Bool[Tensor, "g g"]:
    """Which points (a, b) of a square grid around (0, 0) lie around the colours of sRGB.

    Those that are a corner of a square with a colour in it, so that each colour lies between bins.
    A line of all lightnesses leaves the cube of RGB through one of its faces, so the colours of the
    faces are enough.

    Deviation: at a grid of 10 these are 309, all of them among the 313 of the authors' file; the
    other four lie further out, and how that file was made is not said.
    """
    u, v = torch.cartesian_prod(*[torch.linspace(0, 1, 257, dtype=torch.float64)] * 2).unbind(1)
    faces = [
        torch.stack([*(u, v)[:axis], torch.full_like(u, end), *(u, v)[axis:]])
        for axis in range(3)
        for end in (0, 1)
    ]
    ab = rgb_to_lab(torch.cat(faces, dim=1)[None, :, None])[0, 1:, 0]  # (2, P)
    zero = math.ceil(FURTHEST / grid) + 3  # no colour within two squares of the edge
    a, b = (ab / grid).floor().long() + zero
    holds = torch.zeros(2 * zero + 1, 2 * zero + 1, dtype=torch.bool)
    holds[a, b] = True
    return holds | holds.roll(1, 0) | holds.roll(1, 1) | holds.roll((1, 1), (0, 1))
