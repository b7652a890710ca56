"""Choosing which tokens are seen."""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from selftaught import dist
from selftaught.errors import UserError


def random_split(
    n: int, length: int, ratio: float, device: torch.device
) -> tuple[Int[Tensor, "n k"], Int[Tensor, "n m"]]:
    """Hide ``ratio`` of each sample's tokens at random: the kept and the hidden places.

    As in MAE's code (He et al. 2021, arXiv 2111.06377) the number of the kept is rounded down.
    Drawn for the global batch, so that several processes hide what one would have hidden.
    """
    noise = dist.mine(torch.rand(n * dist.world_size(), length))
    order = noise.argsort(dim=1).to(device)
    kept = int(length * (1 - ratio))
    return order[:, :kept], order[:, kept:]


def unitwise(n: int, grid: int, unit: int, ratio: float) -> Bool[Tensor, "n l"]:
    """Hide ``ratio`` of each sample's square grid, ``unit`` x ``unit`` places at once.

    SimMIM (Xie et al. 2021, arXiv 2111.09886), section 3.2, "Patch-aligned random masking"; as in
    the authors' code the number of hidden units is rounded up. Drawn for the global batch.
    """
    side = grid // unit
    noise = dist.mine(torch.rand(n * dist.world_size(), side**2))
    rank = noise.argsort(dim=1).argsort(dim=1)
    hidden = (rank < math.ceil(side**2 * ratio)).view(n, side, side)
    return hidden.repeat_interleave(unit, dim=1).repeat_interleave(unit, dim=2).flatten(1)


BLOCKS = 30  # tries of a block; nearly all places that a block can still hide are hidden after them
RETRIES = 20  # places tried for a context before it may show one more of the targets


def blockwise(
    n: int, grid: int, count: int | Int[Tensor, " n"], *, smallest: int = 16, aspect: float = 0.3
) -> Bool[Tensor, "n l"]:
    """Hide exactly ``count`` places of each sample's square grid, in blocks.

    BEiT (Bao et al. 2021, arXiv 2106.08254), algorithm 1: a block's area is uniform between
    ``smallest`` and what is left to hide, its height over its width log-uniform between ``aspect``
    and one over it. As in the authors' code a block that hides nothing new, more than is left or a
    whole side of the grid is passed over.

    Deviation, so that shapes are the same at every step: what no block could hide is hidden place
    by place, where theirs gives up after ten tries of a block and hides fewer than ``count``.
    Drawn for the global batch.
    """
    world = dist.world_size()
    draws = dist.mine(torch.rand(n * world, BLOCKS, 4))
    spare = dist.mine(torch.rand(n * world, grid**2))
    left = torch.as_tensor(count).expand(n)
    hidden = torch.zeros(n, grid**2, dtype=torch.bool)
    for draw in draws.unbind(1):
        area = smallest + draw[:, 0] * (left - smallest)
        ratio = aspect ** (1 - 2 * draw[:, 1])
        size = torch.stack([area * ratio, area / ratio], dim=1).sqrt().round()  # (n, 2)
        new = _boxes(draw[:, 2:], size, grid) & ~hidden
        found = new.sum(dim=1)
        fits = (size < grid).all(dim=1) & (found <= left)
        hidden |= new & fits[:, None]
        left = left - found * fits
    rank = spare.masked_fill(hidden, 1).argsort(dim=1).argsort(dim=1)
    return hidden | (rank < left[:, None])


def image_blocks(
    x: Any, n: int, length: int, *, ratio: float = 0.6, smallest: int = 16
) -> Bool[Tensor, "n l"]:
    """Hide ``ratio`` of the patches of square images, in blocks of ``smallest`` or more."""
    return blockwise(n, math.isqrt(length), round(ratio * length), smallest=smallest)


def squares(n: int, grid: int, side: int, count: int) -> Bool[Tensor, "n l"]:
    """Hide ``count`` squares of each sample's square grid, which may lie over one another.

    Drawn for the global batch.
    """
    place = dist.mine(torch.rand(n * dist.world_size(), count, 2))
    return _boxes(place, (side, side), grid).any(dim=1)


class OneOfTwo(NamedTuple):
    """What is hidden of two views of n samples, the second views' rows after the first's."""

    hidden: Bool[Tensor, "v l"]  # of every view
    rows: Int[Tensor, " n"]  # the view of each sample that something is hidden of
    places: Int[Tensor, "n m"]  # what is hidden of it

    def of(self, tokens: Float[Tensor, "v l d"]) -> Float[Tensor, "n m d"]:
        """The tokens in the place of what is hidden."""
        return take(tokens[self.rows], self.places)


def one_of_two(
    n: int, length: int, ratio: float, device: torch.device, *, smallest: int = 0
) -> OneOfTwo:
    """Hide ``ratio`` of the square grid of one of each sample's two views, in blocks.

    iBOT (Zhou et al. 2021, arXiv 2111.07832), section 3.3 and the authors' code: a block has
    ``smallest`` patches or more, 0 being a ninth of the grid, and half of the views are left whole.
    Drawn for the global batch.

    Deviation, so that shapes are the same at every step: of two views it is one, where theirs draws
    for each view, and always the same number of places, where theirs varies around it.
    """
    grid = math.isqrt(length)
    second = dist.mine(torch.randint(2, (n * dist.world_size(),)))
    smallest = smallest or max(1, (grid // 3) ** 2)
    block = blockwise(n, grid, round(ratio * length), smallest=smallest)
    rows = second * n + torch.arange(n)
    hidden = torch.zeros(2 * n, length, dtype=torch.bool)
    hidden[rows] = block
    places = block.nonzero()[:, 1].view(n, -1)
    return OneOfTwo(hidden.to(device), rows.to(device), places.to(device))


@dataclass(frozen=True)
class MultiBlock:
    """A context and several target blocks of each sample's square grid of places.

    I-JEPA (Assran et al. 2023, arXiv 2301.08243), section 3 and appendix A.1. Sizes are drawn once
    for the batch, as shares of the grid's area (``scale``, ``context``) and as heights over widths
    (``aspect``), places for each sample. The context is a square less all targets. As in the
    authors' code it has more than ``least`` places: another square is tried, and in the end one
    that shows a target.

    Deviations from that code: of larger contexts than the batch's smallest any places are left out,
    not the last, and a block may lie anywhere, where theirs never touches the last row and column.
    Raises UserError for settings out of range and for too small a grid.
    """

    grid: int
    targets: int = 4
    scale: tuple[float, float] = (0.15, 0.2)
    aspect: tuple[float, float] = (0.75, 1.5)
    context: tuple[float, float] = (0.85, 1.0)
    least: int = 10

    def __post_init__(self) -> None:
        for name, (low, high) in {"target": self.scale, "context": self.context}.items():
            if not 0 < low <= high <= 1:
                largest = " and --largest-target from that" if name == "target" else ""
                raise UserError(
                    f"{name}s of {low} to {high} of the image; use --smallest-{name} above 0"
                    f"{largest} up to 1"
                )
        if self.targets < 1 or not 0 < self.aspect[0] <= self.aspect[1]:
            raise UserError(f"{self.targets} targets; use --targets with 1 or more")
        _, square = self._sizes(0.0, 0.0)
        if square[0] * square[1] <= self.least:
            raise UserError(
                f"{self.grid} x {self.grid} patches are too few for a context of more than "
                f"{self.least}; use smaller patches (--patch), or a smaller --least"
            )

    def __call__(self, n: int) -> tuple[Int[Tensor, "n k"], Int[Tensor, "n m l"]]:
        """The places of the contexts and of the targets, drawn for the global batch."""
        rows, length = n * dist.world_size(), self.grid**2
        target, square = self._sizes(*torch.rand(2).tolist())
        blocks = _boxes(torch.rand(rows, self.targets, 2), target, self.grid)  # (N, M, L)
        seen = torch.zeros(rows, length, dtype=torch.bool)
        for i, place in enumerate(torch.rand(RETRIES * self.targets + 1, rows, 2)):
            if seen.any(dim=1).all():
                break
            avoided = blocks[:, : self.targets - i // RETRIES].any(dim=1)
            found = _boxes(place, square, self.grid) & ~avoided
            wanted = ~seen.any(dim=1) & (found.sum(dim=1) > self.least)
            seen |= found & wanted[:, None]
        kept = int(seen.sum(dim=1).min())
        order = torch.rand(rows, length).masked_fill(~seen, 2).argsort(dim=1)
        hidden = blocks.int().argsort(dim=2, descending=True, stable=True)  # (N, M, L)
        context = order[:, :kept].sort(dim=1).values
        return dist.mine(context), dist.mine(hidden[..., : target[0] * target[1]])

    def _sizes(self, first: float, second: float) -> tuple[tuple[int, int], tuple[int, int]]:
        """Heights and widths of targets and of the context's square."""
        return self._size(first, self.scale, self.aspect), self._size(second, self.context, (1, 1))

    def _size(
        self, share: float, scale: tuple[float, float], aspect: tuple[float, float]
    ) -> tuple[int, int]:
        """Height and width, below the grid's and at least 1; one number places both in range."""
        area = int(self.grid**2 * (scale[0] + share * (scale[1] - scale[0])))
        ratio = aspect[0] + share * (aspect[1] - aspect[0])
        height, width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        return max(1, min(height, self.grid - 1)), max(1, min(width, self.grid - 1))


def _boxes(
    place: Float[Tensor, "*n 2"], size: Float[Tensor, "*n 2"] | tuple[int, int], grid: int
) -> Bool[Tensor, "*n l"]:
    """Which places of the grid lie in a box; ``place`` in [0, 1) says where it lies."""
    size = torch.as_tensor(size)
    start = (place * (grid - size + 1)).floor()
    line = torch.arange(grid)
    inside = (line >= start[..., None]) & (line < (start + size)[..., None])  # (*n, 2, grid)
    return (inside[..., 0, :, None] & inside[..., 1, None, :]).flatten(-2)


def take(tokens: Float[Tensor, "n l d"], index: Int[Tensor, "n k"]) -> Float[Tensor, "n k d"]:
    """The tokens at the given places of each sample."""
    return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
