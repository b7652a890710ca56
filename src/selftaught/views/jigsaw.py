"""The nine tiles of an image in a random order."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from selftaught.errors import UserError
from selftaught.views.crop import Crop
from selftaught.views.drawing import check_probability, uniform
from selftaught.views.image import View, Views

SIDE = 3  # cells along each side of the grid
TILES = SIDE**2


class TileParameters(NamedTuple):
    """What `Jigsaw` draws for its tiles."""

    order: Tensor  # (n, 9) which cell of the grid comes first, second, ..., ninth
    place: Tensor  # (n, 9, 2) in [0, 1): where in its cell a tile lies, down and across


class Jigsaw:
    """Nine tiles of a crop of each image, one from each cell of a grid, in a random order.

    PIRL (Misra & van der Maaten 2019, https://arxiv.org/abs/1912.01991, section 3.2): a crop of 3 x
    3 cells of ``cell`` pixels, and in each cell a tile of ``tile`` pixels at a random place. As in
    the authors' code all orders are equally likely; each tile is flipped and changes its colours,
    by the steps ``then``, on its own.
    """

    def __init__(
        self,
        tile: int,
        cell: int,
        *then: Any,
        scale: tuple[float, float] = (0.6, 1.0),
        flip: float = 0.5,
    ) -> None:
        check_probability(flip)
        if not 1 <= tile <= cell:
            raise UserError(f"tiles of {tile} pixels in cells of {cell}; give tiles that fit")
        self.tile, self.cell = tile, cell
        self.cropper = View(Crop(SIDE * cell, scale=scale, flip=0.0))
        self.flip = flip
        self.piece = View(Crop(tile), *then)

    def draw(self, generator: Generator, n: int) -> tuple[Any, ...]:
        """The parameters of the crop, of the tiles, and of each tile's flip and colours."""
        tiles = TileParameters(
            order=uniform(generator, n, TILES).argsort(1),
            place=uniform(generator, n, TILES, 2),
        )
        flip = uniform(generator, n, TILES) < self.flip  # (n, 9)
        colours = tuple(
            tuple(step.draw(generator, n) for step in self.piece.then) for _ in range(TILES)
        )
        return self.cropper.draw(generator, n), tiles, flip, colours

    def crop(self, images: Tensor | Sequence[Tensor], parameters: tuple[Any, ...]) -> Tensor:
        """The crops that the tiles are cut from, uint8 (n, C, 3 cell, 3 cell)."""
        return self.cropper.crop(images, parameters[0])

    def apply(self, x: Tensor, parameters: tuple[Any, ...]) -> Tensor:
        """The tiles of the uint8 crops x as float32 in [0, 1]: (n, 9, C, tile, tile)."""
        _, tiles, flip, colours = parameters
        found = []
        for k, chosen in enumerate(colours):
            y = self._cut(x, tiles.order[:, k], tiles.place[:, k])
            mirrored = flip[:, k].to(x.device)[:, None, None, None]
            y = torch.where(mirrored, y.flip(3), y)
            found.append(self.piece.apply(y, (None, *chosen)))
        return torch.stack(found, dim=1)

    def _cut(self, x: Tensor, cell: Tensor, place: Tensor) -> Tensor:
        """One tile of each image (n, C, tile, tile), from the cells (n,) at places (n, 2)."""
        spare = self.cell - self.tile + 1
        corner = torch.stack([cell // SIDE, cell % SIDE], dim=1) * self.cell  # (n, 2)
        corner = (corner + (place * spare).long()).to(x.device)
        span = torch.arange(self.tile, device=x.device)
        down, across = (corner[:, i, None] + span for i in range(2))  # (n, tile)
        image = torch.arange(len(x), device=x.device)[:, None, None]
        y = x[image, :, down[:, :, None], across[:, None, :]]  # (n, tile, tile, C)
        return y.permute(0, 3, 1, 2)


class WithTiles(Views):
    """A view of each image, then the nine tiles of its jigsaw as views of their own."""

    def __init__(
        self, image: View, jigsaw: Jigsaw, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        parts: list[Any] = [image, jigsaw]
        super().__init__(parts, mean, std)

    def apply(
        self, crops: Sequence[Tensor], parameters: Sequence[tuple[Any, ...]]
    ) -> tuple[Tensor, ...]:
        """The view and nine tiles in their random order, float32 and normalised."""
        image, tiles = super().apply(crops, parameters)
        return (image, *tiles.unbind(1))
