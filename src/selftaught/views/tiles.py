"""Tiles of an image as views."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from selftaught.precision import float32
from selftaught.views.crop import Crop, Square
from selftaught.views.drawing import check_probability, uniform
from selftaught.views.image import View, Views

FLAT = 1 / 255  # a tile's standard deviation below which it shows nothing: one grey level


class Tiles:
    """``count`` tiles of a crop of each image, each with a flip and colours of its own.

    Subclasses say where they lie. The steps ``alike`` change all tiles of an image in the same way,
    before the steps ``then`` change each in its own.
    """

    def __init__(
        self,
        crop: Crop | Square,
        tile: int,
        count: int,
        *then: Any,
        flip: float = 0.0,
        alike: Sequence[Any] = (),
    ) -> None:
        check_probability(flip)
        self.tile, self.count, self.flip = tile, count, flip
        self.cropper = View(crop)
        self.piece = View(Crop(tile), *alike, *then)
        self.alike = len(alike)

    def place(self, generator: Generator, n: int) -> Any:
        """What is drawn of where the tiles of n images lie."""
        raise NotImplementedError

    def corners(self, place: Any) -> Tensor:
        """Where the tiles begin, down and across, in pixels of the crop: long (n, count, 2)."""
        raise NotImplementedError

    def draw(self, generator: Generator, n: int) -> tuple[Any, ...]:
        """The parameters of the crop, of the tiles, and of each tile's flip and colours."""
        place = self.place(generator, n)
        flip = uniform(generator, n, self.count) < self.flip  # (n, count)
        alike, own = self.piece.then[: self.alike], self.piece.then[self.alike :]
        same = tuple(step.draw(generator, n) for step in alike)
        colours = tuple(
            (*same, *(step.draw(generator, n) for step in own)) for _ in range(self.count)
        )
        return self.cropper.draw(generator, n), place, flip, colours

    def crop(self, images: Tensor | Sequence[Tensor], parameters: tuple[Any, ...]) -> Tensor:
        """The crops that the tiles are cut from, uint8 (n, C, S, S)."""
        return self.cropper.crop(images, parameters[0])

    def apply(self, x: Tensor, parameters: tuple[Any, ...]) -> Tensor:
        """The tiles of the uint8 crops x as float32 in [0, 1]: (n, count, C, tile, tile)."""
        _, place, flip, colours = parameters
        corners = self.corners(place).to(x.device)
        found = []
        for k, chosen in enumerate(colours):
            y = cut(x, corners[:, k], self.tile)
            mirrored = flip[:, k].to(x.device)[:, None, None, None]
            y = torch.where(mirrored, y.flip(3), y)
            found.append(self.piece.apply(y, (None, *chosen)))
        return torch.stack(found, dim=1)


def cut(x: Tensor, corner: Tensor, side: int) -> Tensor:
    """One square of each image (n, C, side, side), from its corner (n, 2) on."""
    span = torch.arange(side, device=x.device)
    down, across = (corner[:, i, None] + span for i in range(2))  # (n, side)
    image = torch.arange(len(x), device=x.device)[:, None, None]
    y = x[image, :, down[:, :, None], across[:, None, :]]  # (n, side, side, C)
    return y.permute(0, 3, 1, 2)


class TilesAlone(Views):
    """The tiles of each image as views, each normalised by itself and not by the data.

    Noroozi & Favaro 2016, https://arxiv.org/abs/1603.09246, and Doersch et al. 2015,
    https://arxiv.org/abs/1505.05192, in the authors' train.py: neighbours have much the same mean
    and contrast, which would tell where a tile comes from.
    """

    def __init__(self, tiles: Tiles, mean: Sequence[float], std: Sequence[float]) -> None:
        parts: list[Any] = [tiles]
        super().__init__(parts, mean, std)

    def apply(
        self, crops: Sequence[Tensor], parameters: Sequence[tuple[Any, ...]]
    ) -> tuple[Tensor, ...]:
        """As many views (n, C, tile, tile) as there are tiles, float32."""
        (tiles,) = super().apply(crops, parameters)
        return tiles.unbind(1)

    def _normalise(self, x: Tensor) -> Tensor:
        return standardised(x)


@float32
def standardised(x: Tensor) -> Tensor:
    """Each tile of x (..., C, S, S) less its channels' means and over its standard deviation.

    The standard deviation is that of all channels together. A tile that shows nothing stays flat.
    """
    x = x - x.mean(dim=(-1, -2), keepdim=True)
    return x / x.square().mean(dim=(-1, -2, -3), keepdim=True).sqrt().clamp(min=FLAT)
