"""Ways to arrange parts of an image: orders of tiles, pairs of neighbours."""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from selftaught.errors import UserError

# Generators of groups of permutations of nine things, and how many each group has. Any two of them
# differ in 8, 7 and 6 places at least. The things are the elements of the field of nine (0, then
# the powers of w, where w^2 = w + 1), and those of the field of eight (likewise, g^3 = g + 1) and
# infinity.
NINTHS = (0, 2, 3, 4, 5, 6, 7, 8, 1)  # x -> w x
NINTHS_ON = (1, 5, 3, 8, 7, 0, 4, 6, 2)  # x -> x + 1
EIGHTHS = (0, 2, 3, 4, 5, 6, 7, 1, 8)  # x -> g x
EIGHTHS_ON = (1, 0, 4, 7, 2, 6, 5, 3, 8)  # x -> x + 1
INVERSE = (8, 1, 7, 6, 5, 4, 3, 2, 0)  # x -> 1 / x
SQUARE = (0, 1, 3, 5, 7, 2, 4, 6, 8)  # x -> x^2
GROUPS = {
    72: (NINTHS, NINTHS_ON),  # AGL(1, 9)
    504: (EIGHTHS, EIGHTHS_ON, INVERSE),  # PSL(2, 8)
    1512: (EIGHTHS, EIGHTHS_ON, INVERSE, SQUARE),  # PGammaL(2, 8)
}


@functools.cache
def permutations(tiles: int, count: int) -> Int[Tensor, "p t"]:
    """``count`` permutations of so many tiles, in as many places as possible unlike one another.

    Noroozi & Favaro 2016, arXiv 1603.09246, algorithm 1: one after another is chosen by its Hamming
    distances from those that are there. Always the same ones, the identity first, which loses
    nothing: distances stay the same when tiles are renamed.

    Deviations: the next is the one whose nearest is furthest, and only among such the one that is
    furthest on average; the paper looks at the average alone. Of nine tiles, up to 1512 are chosen
    from the smallest of three groups that has enough. So any two of 9 differ in 9 places, of 72 in
    8 or more, of 504 in 7 and of 1512 in 6, and no other choice has more: those that differ in d
    places are all different on the first 10 - d tiles, so that there are at most 9! / (d - 1)!. By
    the paper's rule two of its 1000 differ in 2.

    Raises UserError for less than two permutations and for more than there are.
    """
    most = math.factorial(tiles)
    if not 2 <= count <= most:
        raise UserError(f"{count} permutations of {tiles} tiles; use --permutations 2 to {most}")
    candidates = itertools.permutations(range(tiles))
    group = next((g for order, g in GROUPS.items() if tiles == 9 and count <= order), None)
    every = torch.tensor(list(candidates) if group is None else closure(group), dtype=torch.uint8)
    every = every.T.contiguous()  # (T, N)
    total = torch.zeros(every.shape[1], dtype=torch.int64)
    nearest = torch.full((every.shape[1],), tiles)
    chosen = [0]
    while len(chosen) < count:
        distance = (every != every[:, chosen[-1], None]).sum(0)  # (N,)
        total += distance
        nearest = nearest.minimum(distance)
        chosen.append(int((nearest * tiles * count + total).argmax()))
    return every[:, chosen].T.long()


def closure(generators: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """All permutations that some make one after another, in order, so the identity first."""
    found, new = set(), {tuple(range(len(generators[0])))}
    while new:
        found |= new
        new = {tuple(one[i] for i in g) for one in new for g in generators} - found
    return sorted(found)


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
