"""Ways to arrange parts of an image: orders of tiles, pairs of neighbours."""

import functools
import itertools
import math
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from selftaught.errors import UserError


@functools.cache
def permutations(tiles: int, count: int) -> Int[Tensor, "p t"]:
    """``count`` permutations of so many tiles, in as many places as possible unlike one another.

    Noroozi & Favaro 2016, arXiv 1603.09246, algorithm 1: one after another is chosen by its Hamming
    distances from those that are there. Always the same ones, the identity first, which loses
    nothing: distances stay the same when tiles are renamed.

    Deviation: the next is the one whose nearest is furthest, and only among such the one that is
    furthest on average; the paper looks at the average alone. On nine tiles both averages are the
    same (8.08 of 100, 8.01 of 1000), but the two nearest of 100 differ in 6 places instead of 4,
    and those of 1000 in 5 instead of 2.

    Raises UserError for less than two permutations and for more than there are.
    """
    most = math.factorial(tiles)
    if not 2 <= count <= most:
        raise UserError(f"{count} permutations of {tiles} tiles; use --permutations 2 to {most}")
    every = torch.tensor(list(itertools.permutations(range(tiles))), dtype=torch.uint8)
    every = every.T.contiguous()  # (T, T!)
    total = torch.zeros(most, dtype=torch.int64)
    nearest = torch.full((most,), tiles)
    chosen = [0]
    while len(chosen) < count:
        distance = (every != every[:, chosen[-1], None]).sum(0)  # (T!,)
        total += distance
        nearest = nearest.minimum(distance)
        chosen.append(int((nearest * tiles * count + total).argmax()))
    return every[:, chosen].T.long()


# Where the second of two neighbours lies, in rows down and columns to the right of the first.
CONFIGURATIONS = [(d, r) for d in (-1, 0, 1) for r in (-1, 0, 1) if d or r]


class Pairs(NamedTuple):
    """Pairs of places of a grid, numbered row by row."""

    first: Int[Tensor, " p"]
    second: Int[Tensor, " p"]
    which: Int[Tensor, " p"]  # of the eight configurations


def neighbours(grid: int) -> Pairs:
    """All pairs of neighbours in a square grid, in both orders.

    Doersch et al. 2015, arXiv 1505.05192, figure 2: a place has up to eight neighbours, numbered
    row by row. Raises UserError for a grid in which a place has none.
    """
    if grid < 2:
        raise UserError(f"a grid of {grid} has no neighbours; use --grid with 2 or more")
    side = range(grid)
    found = [
        (row * grid + column, (row + d) * grid + column + r, which)
        for row in side
        for column in side
        for which, (d, r) in enumerate(CONFIGURATIONS)
        if row + d in side and column + r in side
    ]
    return Pairs(*torch.tensor(found).unbind(1))
