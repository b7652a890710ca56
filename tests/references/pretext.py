"""Slow float64 references of pretext tasks, from the papers' equations, one sample at a time."""

from collections.abc import Callable

import numpy as np

from references.instance import cross_entropy

Array = np.ndarray


# Rotation


def rotation_loss(scores: Array) -> float:
    """The loss of `scores` (K, N, K): of the image turned y times, for each of the K turns.

    Gidaris et al., arXiv 1803.07728, equations 2 and 3: the loss of image i is -1/K times the sum
    over y of log F^y(g(X_i | y)), F being the softmax, and the objective its mean over the images.
    """
    turns, count, _ = scores.shape
    losses = []
    for i in range(count):
        logarithms = [-cross_entropy(scores[y, i], y) for y in range(turns)]
        losses.append(-sum(logarithms) / turns)
    return float(np.mean(losses))


# Jigsaw


def hamming(a: Array, b: Array) -> int:
    """In how many places two permutations differ."""
    return sum(int(x != y) for x, y in zip(a, b, strict=True))


def smallest_distance(permutations: Array) -> int:
    """The Hamming distance of the two that are nearest to each other."""
    found = [hamming(a, b) for i, a in enumerate(permutations) for b in list(permutations)[i + 1 :]]
    return min(found)


def jigsaw_loss(
    features: Array, permutations: Array, which: Array, solver: Callable[[Array], Array]
) -> float:
    """The mean loss of puzzles: `features` (N, T, D) of each image's tiles in their right order.

    Noroozi & Favaro, arXiv 1603.09246, section 3: place k of puzzle i shows the tile that the
    permutation which[i] names there; the features of all places, one after another, give scores of
    all permutations, and the loss is the cross-entropy of the right one.
    """
    losses = []
    for tiles, label in zip(features, which, strict=True):
        joined = np.concatenate([tiles[place] for place in permutations[label]])
        losses.append(cross_entropy(solver(joined), label))
    return float(np.mean(losses))


# Relative patches

# Doersch et al., arXiv 1505.05192, figure 2, numbered row by row from 0 as in the authors' code:
# where the second patch lies, as (rows down, columns to the right) of the first.
CONFIGURATIONS = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]


def relative_patch_loss(features: Array, grid: int, head: Callable[[Array], Array]) -> float:
    """The mean loss over images and pairs: `features` (N, grid * grid, D), row by row.

    Doersch et al., arXiv 1505.05192, section 3, with the pairs of the authors' train.py: any two
    patches of the grid that are neighbours, in both orders. Features of both, one after the other,
    give scores of the eight configurations.
    """
    losses = []
    for patches in features:
        for row in range(grid):
            for column in range(grid):
                for label, (down, right) in enumerate(CONFIGURATIONS):
                    r, c = row + down, column + right
                    if not (0 <= r < grid and 0 <= c < grid):
                        continue
                    pair = [patches[row * grid + column], patches[r * grid + c]]
                    losses.append(cross_entropy(head(np.concatenate(pair)), label))
    return float(np.mean(losses))
