"""The nine tiles of an image, in a random order or in their own."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from selftaught.errors import UserError
from selftaught.views.crop import Crop, Square
from selftaught.views.drawing import uniform
from selftaught.views.image import View, Views
from selftaught.views.tiles import Tiles

SIDE = 3  # cells along each side of the grid
TILES = SIDE**2


class TileParameters(NamedTuple):
    """What `Jigsaw` draws for its tiles."""

    order: Tensor  # (n, 9) which cell of the grid comes first, second, ..., ninth
    place: Tensor  # (n, 9, 2) in [0, 1): where in its cell a tile lies, down and across


class Jigsaw(Tiles):
    """Nine tiles of a crop of each image, one from each cell of a grid.

    PIRL (Misra & van der Maaten 2019, https://arxiv.org/abs/1912.01991, section 3.2) and Noroozi &
    Favaro 2016, https://arxiv.org/abs/1603.09246: a crop of 3 x 3 cells of ``cell`` pixels, and in
    each cell a tile of ``tile`` pixels at a random place. Where they are ``shuffled``, all orders
    are equally likely, as in PIRL's code; otherwise they come row by row. Each tile is flipped and
    changes its colours, by the steps ``then``, on its own. A crop that is ``square`` keeps the
    shape of what it shows, as Noroozi & Favaro's does, and ``scale`` is its share of the image's
    largest square; else it is PIRL's, of any shape that `Crop` draws.
    """

    def __init__(
        self,
        tile: int,
        cell: int,
        *then: Any,
        scale: tuple[float, float] = (0.6, 1.0),
        flip: float = 0.5,
        alike: Sequence[Any] = (),
        shuffled: bool = True,
        square: bool = False,
    ) -> None:
        if not 1 <= tile <= cell:
            raise UserError(f"tiles of {tile} pixels in cells of {cell}; give tiles that fit")
        crop = (Square if square else Crop)(SIDE * cell, scale=scale, flip=0.0)
        super().__init__(crop, tile, TILES, *then, flip=flip, alike=alike)
        self.cell, self.shuffled = cell, shuffled

    def place(self, generator: Generator, n: int) -> TileParameters:
        """The order of the tiles, and where they lie in their cells."""
        if self.shuffled:
            order = uniform(generator, n, TILES).argsort(1)
        else:
            order = torch.arange(TILES, device=generator.device).repeat(n, 1)
        return TileParameters(order=order, place=uniform(generator, n, TILES, 2))

    def corners(self, place: TileParameters) -> Tensor:
        """Where the tiles begin: long (n, 9, 2)."""
        cell = torch.stack([place.order // SIDE, place.order % SIDE], dim=2)  # (n, 9, 2)
        return cell * self.cell + (place.place * (self.cell - self.tile + 1)).long()


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
