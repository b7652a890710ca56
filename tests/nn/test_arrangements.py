import itertools
import math

import numpy as np
import pytest
import torch

from references import pretext
from references.pretext import hamming, smallest_distance
from selftaught.errors import UserError
from selftaught.nn.arrangements import CONFIGURATIONS, neighbours, permutations


@pytest.mark.parametrize(("tiles", "count"), [(3, 2), (3, 3), (4, 2), (4, 3), (4, 4), (4, 12)])
def test_of_few_tiles_no_set_is_further_apart(tiles, count):
    """By brute force over all sets, the identity in each, since names of tiles don't matter."""
    identity, *others = itertools.permutations(range(tiles))
    if count <= 4:
        sets = itertools.combinations(others, count - 1)
        best = max(smallest_distance([identity, *some]) for some in sets)
    else:  # too many sets: the even permutations, and no 13 of 24 have a distance of 3
        best = 3
    found = smallest_distance(permutations(tiles, count).numpy())
    assert found == best


@pytest.mark.parametrize("count", [2, 9, 10, 64, 72, 73, 100, 504, 505, 1000, 1512])
def test_of_nine_tiles_no_set_is_further_apart(count):
    """Which differ in d places are different on the first 10 - d tiles: 9! / (d - 1)! at most."""
    found = permutations(9, count)
    assert torch.equal(found.sort(1).values, torch.arange(9).expand(count, 9))
    assert found[0].tolist() == list(range(9))
    distances = (found[:, None] != found).sum(2)
    smallest = distances[~torch.eye(count, dtype=torch.bool)].min()
    bound = max(d for d in range(2, 10) if math.factorial(9) // math.factorial(d - 1) >= count)
    assert smallest == bound


def test_each_is_the_furthest_from_those_before():
    every = [np.array(p) for p in itertools.permutations(range(5))]
    found = list(permutations(5, 30).numpy())
    assert found[0].tolist() == list(range(5))
    for i in range(1, len(found)):
        keys = []
        for p in [*every, found[i]]:
            distances = [hamming(p, other) for other in found[:i]]
            keys.append((min(distances), sum(distances)))
        assert keys[-1] == max(keys)


def test_all_there_are_can_be_had():
    found = permutations(4, 24)
    assert len(found.unique(dim=0)) == 24
    assert found.dtype == torch.int64


@pytest.mark.parametrize("count", [1, 0, 25])
def test_more_than_there_are_are_refused(count):
    with pytest.raises(UserError, match="--permutations 2 to 24"):
        permutations(4, count)


@pytest.mark.parametrize(("grid", "count"), [(2, 12), (3, 40), (4, 84)])
def test_neighbours_are_all_pairs_that_touch_and_their_sides(grid, count):
    assert CONFIGURATIONS == pretext.CONFIGURATIONS
    found = set(zip(*(x.tolist() for x in neighbours(grid)), strict=True))
    assert len(found) == len(neighbours(grid).which) == count
    for first, second in itertools.product(range(grid**2), repeat=2):
        (a, b), (c, d) = divmod(first, grid), divmod(second, grid)
        touch = max(abs(a - c), abs(b - d)) == 1
        labels = [which for one, other, which in found if (one, other) == (first, second)]
        assert labels == ([CONFIGURATIONS.index((c - a, d - b))] if touch else [])


@pytest.mark.parametrize("grid", [1, 0, -2])
def test_a_grid_without_neighbours_is_refused(grid):
    with pytest.raises(UserError, match="--grid with 2 or more"):
        neighbours(grid)
