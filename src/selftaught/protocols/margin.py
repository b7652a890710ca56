"""Linear support vector machines on frozen features."""

from typing import NamedTuple

import torch
from torch import Tensor

from selftaught.protocols.convex import (
    FINAL,
    GRID,
    SEARCH,
    SQUARED_HINGE,
    Samples,
    check,
    folds,
    moments,
    solve,
)

FOLDS = 3


class SVMResult(NamedTuple):
    """What a support vector machine found."""

    predictions: Tensor  # (M,) int64, on the CPU
    C: float  #: the inverse penalty that was chosen, in scikit-learn's meaning
    held_out: dict[float, float]  #: accuracy on held-out parts of train, by C


@torch.no_grad()
def svm(
    train_x: Tensor,  # (N, D)
    train_y: Tensor,  # (N,)
    test_x: Tensor,  # (M, D)
    *,
    seed: int = 0,
    grid: tuple[float, ...] = GRID[:-2],
) -> SVMResult:
    """Fit one linear machine a class against all others, and predict by the largest score.

    Minimises the mean squared hinge + |w|^2 / (2 C N) of each class, the bias free, as liblinear
    does (but for its penalty of the bias); features are standardised as for ``logreg``. C is the
    one of ``grid`` with the best accuracy in cross-validation over three parts of train, each class
    in proportion; of equals, the smallest. Exemplar-CNN and VISSL evaluate so.

    Raises UserError as ``logreg`` does.
    """
    check(train_x, train_y, test_x, None)
    present, y = train_y.to(train_x.device).long().unique(return_inverse=True)
    x = train_x.double()
    mean, scale = moments(x)
    x = (x - mean) / scale
    fold = folds(y.cpu().numpy(), seed, FOLDS).to(x.device)
    parts = [_path(x, y, fold == i, len(present), sorted(grid)) for i in range(FOLDS)]
    size = sum(hits[1] for hits in parts)
    accuracy = {c: sum(hits[0][c] for hits in parts) / size for c in sorted(grid)}
    best = max(accuracy, key=lambda c: (accuracy[c], -c))
    start = x.new_zeros(len(present), x.shape[1]), x.new_zeros(len(present))
    weight, bias, _ = solve(
        SQUARED_HINGE, Samples(x, y), best, start, tolerance=FINAL, iterations=1000
    )
    scores = ((test_x.to(x) - mean) / scale) @ weight.T + bias  # (M, K)
    return SVMResult(present[scores.argmax(dim=1)].cpu(), best, accuracy)


def _path(
    x: Tensor, y: Tensor, held: Tensor, classes: int, grid: list[float]
) -> tuple[dict[float, int], int]:
    """How many of the held-out samples are right for each C, and how many there are."""
    hits, fit = {}, Samples(x[~held], y[~held])
    weight, bias = x.new_zeros(classes, x.shape[1]), x.new_zeros(classes)
    for c in grid:
        start = weight, bias
        weight, bias, _ = solve(SQUARED_HINGE, fit, c, start, tolerance=SEARCH, iterations=100)
        right = (x[held] @ weight.T + bias).argmax(dim=1) == y[held]
        hits[c] = int(right.sum())
    return hits, int(held.sum())
