"""Multinomial logistic regression on frozen features."""

from typing import NamedTuple

import torch
from torch import Tensor

from selftaught.protocols.convex import (
    CROSS_ENTROPY,
    FINAL,
    GRID,
    SEARCH,
    Samples,
    check,
    few_threads,
    folds,
    moments,
    solve,
    spanned,
)

FEW = 5000  #: samples of train, below which a single tenth of them is too few to choose by


class LogregResult(NamedTuple):
    """What logistic regression found; ``held_out`` shows whether C lies at the grid's edge."""

    predictions: Tensor  # (M,) int64, on the CPU
    C: float  #: the inverse penalty that was chosen, in scikit-learn's meaning
    held_out: dict[float, float]  #: accuracy on the held-out parts of train, by C
    converged: bool  #: whether the last fit reached its tolerance
    classes: Tensor  # (K,) the labels that occur in train, ascending
    weight: Tensor  # (K, D) float64, for the features as they were given
    bias: Tensor  # (K,) float64


@torch.no_grad()
def logreg(
    train_x: Tensor,  # (N, D)
    train_y: Tensor,  # (N,)
    test_x: Tensor,  # (M, D)
    *,
    seed: int = 0,
    grid: tuple[float, ...] = GRID,
    classes: int | None = None,
) -> LogregResult:
    """Fit logistic regression to frozen features and predict the classes of others.

    Minimises mean cross-entropy + |W|^2 / (2 C N), the bias free, by L-BFGS in float64 (as in
    SimCLR, https://arxiv.org/abs/2002.05709, appendix B.8, and CLIP,
    https://arxiv.org/abs/2103.00020, appendix A.3). Features are standardised one by one with the
    mean and standard deviation of train, so that C means the same for all encoders; constant
    features count for nothing. C is the one of ``grid`` with the best accuracy on a tenth of train
    that ``seed`` holds out, each class in proportion; of equals, the smallest. Of few samples
    (fewer than 5,000) each tenth is held out in turn, and accuracy is that on all of them. The last
    fit is on all of train. Test data take no part in any choice.

    A class with one sample is never held out. Classes that do not occur in train are not predicted.
    ``converged`` is false where the last fit ran out of iterations: then say so beside the number.

    Raises ``UserError`` for shapes that do not fit, features that are not finite, fewer than two
    classes, no class with two samples, and, where ``classes`` is given, for labels outside
    [0, ``classes``) and for classes without a training sample.
    """
    check(train_x, train_y, test_x, classes)
    present, y = train_y.to(train_x.device).long().unique(return_inverse=True)
    x = train_x.double()
    mean, scale = moments(x)
    x, widen = spanned((x - mean) / scale)
    with few_threads(x):
        best, accuracy, start = _choice(x, y, len(present), grid, seed)
        weight, bias, converged = solve(
            CROSS_ENTROPY, Samples(x, y), best, start, tolerance=FINAL, iterations=1000
        )
    weight = widen(weight) / scale
    bias = bias - weight @ mean
    scores = test_x.to(weight) @ weight.T + bias  # (M, K)
    predictions = present[scores.argmax(dim=1)].cpu()
    return LogregResult(predictions, best, accuracy, converged, present.cpu(), weight, bias)


def _choice(
    x: Tensor, y: Tensor, classes: int, grid: tuple[float, ...], seed: int
) -> tuple[float, dict[float, float], tuple[Tensor, Tensor]]:
    """The best C by what is held out, the accuracy there for each, and a solution for the best."""
    fold = folds(y.cpu().numpy(), seed, 10).to(x.device)
    parts = [fold == k for k in range(10 if len(x) < FEW else 1)]
    paths = [_path(x, y, held, classes, sorted(grid)) for held in parts if held.any()]
    total = sum(int(held.sum()) for held in parts)
    accuracy = {c: sum(hits[c] for hits, _ in paths) / total for c in grid}
    best = max(accuracy, key=lambda c: (accuracy[c], -c))
    return best, accuracy, paths[0][1][best]


def _path(
    x: Tensor, y: Tensor, held: Tensor, classes: int, grid: list[float]
) -> tuple[dict[float, int], dict[float, tuple[Tensor, Tensor]]]:
    """How many held out are right, and the solution, for each C; each fit starts from the last."""
    right, solutions = {}, {}
    fit, x_held, y_held = Samples(x[~held], y[~held]), x[held], y[held]
    weight, bias = x.new_zeros(classes, x.shape[1]), x.new_zeros(classes)
    for c in grid:
        start = weight, bias
        weight, bias, _ = solve(CROSS_ENTROPY, fit, c, start, tolerance=SEARCH, iterations=100)
        hits = (x_held @ weight.T + bias).argmax(dim=1) == y_held
        right[c], solutions[c] = int(hits.sum()), (weight, bias)
    return right, solutions
