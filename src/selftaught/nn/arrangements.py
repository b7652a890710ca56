"""Ways to arrange parts of an image: orders of tiles."""

import functools
import itertools
import math

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
    furthest on average; the paper looks at the average alone. On nine tiles that average is the
    paper's (8.08 of 100, 8.01 of 1000), but the two nearest of 100 differ in 6 places instead of
    the 2 of the paper's table 4, and those of 1000 in 5.

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
