"""Patches of an image that lie next to one another."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from selftaught.errors import UserError
from selftaught.views.crop import Square
from selftaught.views.drawing import uniform
from selftaught.views.tiles import Tiles


class NeighbourParameters(NamedTuple):
    """What `Neighbours` draws for its patches."""

    start: Tensor  # (n, 2) in [0, 1): where the grid begins, down and across
    jitter: Tensor  # (n, T, 2) in [0, 1): how far each patch is moved


class Neighbours(Tiles):
    """A square grid of patches at a random place of a square of each image, row by row.

    Doersch et al. 2015, https://arxiv.org/abs/1505.05192, section 3.1 and the authors' train.py:
    between patches there are ``gap`` pixels, and each patch is moved by up to ``jitter`` of them to
    either side, down and across; never so far that two patches touch. Each changes its colours, by
    the steps ``then``, on its own. The square has a share ``scale`` of the area of the image's
    largest, and is shown in its own shape.

    Deviation: patches are not made coarser at random.
    """

    def __init__(
        self,
        size: int,
        tile: int,
        gap: int,
        jitter: int,
        *then: Any,
        grid: int = 2,
        scale: tuple[float, float] = (0.6, 1.0),
        alike: Sequence[Any] = (),
    ) -> None:
        if not (tile >= 1 and jitter >= 0 and gap > 2 * jitter):
            raise UserError(
                f"patches of {tile} pixels, {gap} apart and moved by {jitter}, may touch; give a "
                "gap of more than twice the jitter"
            )
        extent = grid * tile + (grid - 1) * gap + 2 * jitter
        if grid < 1 or extent > size:
            raise UserError(
                f"a grid of {grid} x {grid} patches over {extent} pixels of images of {size}; give "
                "patches that fit"
            )
        super().__init__(Square(size, scale=scale, flip=0.0), tile, grid**2, *then, alike=alike)
        self.grid, self.gap, self.jitter, self.spare = grid, gap, jitter, size - extent

    def place(self, generator: Generator, n: int) -> NeighbourParameters:
        """Where the grid begins, and how far each patch is moved."""
        start = uniform(generator, n, 2)
        return NeighbourParameters(start, uniform(generator, n, self.count, 2))

    def corners(self, place: NeighbourParameters) -> Tensor:
        """Where the patches begin: long (n, T, 2)."""
        cell = torch.arange(self.count, device=place.start.device)
        cell = torch.stack([cell // self.grid, cell % self.grid], dim=1)  # (T, 2)
        start = (place.start * (self.spare + 1)).long()[:, None]  # (n, 1, 2)
        moved = (place.jitter * (2 * self.jitter + 1)).long()  # from 0 on
        return start + cell * (self.tile + self.gap) + moved
