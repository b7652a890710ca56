"""Linear support vector machines on frozen features."""

from typing import NamedTuple

import torch
from torch import Tensor

from selftaught import seeds
from selftaught.errors import UserError
from selftaught.protocols.convex import (
    FINAL,
    GRID,
    SEARCH,
    SIGNED_HINGE,
    SQUARED_HINGE,
    Samples,
    check,
    check_features,
    few_threads,
    folds,
    moments,
    solve,
    spanned,
)
from selftaught.protocols.ranking import average_precision

FOLDS = 3


class SVMResult(NamedTuple):
    """What a support vector machine found."""

    predictions: Tensor  # (M,) int64, on the CPU
    C: float  #: the inverse penalty that was chosen, in scikit-learn's meaning
    held_out: dict[float, float]  #: accuracy on held-out parts of train, by C
    converged: bool  #: whether the last fit reached its tolerance


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
    x, widen = spanned((x - mean) / scale)
    with few_threads(x):
        fold = folds(y.cpu().numpy(), seed, FOLDS).to(x.device)
        parts = [_path(x, y, fold == i, len(present), sorted(grid)) for i in range(FOLDS)]
        size = sum(hits[1] for hits in parts)
        accuracy = {c: sum(hits[0][c] for hits in parts) / size for c in sorted(grid)}
        best = max(accuracy, key=lambda c: (accuracy[c], -c))
        start = x.new_zeros(len(present), x.shape[1]), x.new_zeros(len(present))
        weight, bias, converged = solve(
            SQUARED_HINGE, Samples(x, y), best, start, tolerance=FINAL, iterations=1000
        )
    scores = ((test_x.to(x) - mean) / scale) @ widen(weight).T + bias  # (M, K)
    return SVMResult(present[scores.argmax(dim=1)].cpu(), best, accuracy, converged)


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


class TagsResult(NamedTuple):
    """What one support vector machine a label found."""

    scores: Tensor  # (M, K) float64, on the CPU
    C: Tensor  # (K,) the inverse penalty that was chosen for each label
    held_out: dict[float, Tensor]  #: (K,) average precision on held-out parts of train, by C
    converged: bool  #: whether the last fit of every label reached its tolerance


@torch.no_grad()
def svm_tags(
    train_x: Tensor,  # (N, D)
    train_y: Tensor,  # (N, K): 1, 0 or -1
    test_x: Tensor,  # (M, D)
    *,
    seed: int = 0,
    grid: tuple[float, ...] = GRID[:-2],
) -> TagsResult:
    """Fit one linear machine a label, where a sample may have several, and score other samples.

    The objective and the features are those of ``svm``; a sample whose label isn't said (-1) takes
    no part in that label's machine. C is chosen for each label by the average precision on three
    held-out parts of train; of equals, the smallest. So in VISSL's VOC07 protocol (Goyal et al.
    2019, https://arxiv.org/abs/1905.01235, appendix). Deviations: VISSL counts samples that have
    the label twice, brings each sample's features to length one where here each feature is
    standardised over samples, penalises the bias, tries other C, and chooses among them by
    scikit-learn's average precision, which is not interpolated.

    Raises UserError for shapes that do not fit, features that are not finite, and a label that
    fewer than two training samples have, or all.
    """
    check_features(train_x, test_x)
    _check_tags(train_x, train_y)
    x, sign = train_x.double(), _signs(train_y).to(train_x.device)
    mean, scale = moments(x)
    x, widen = spanned((x - mean) / scale)
    order = torch.randperm(len(x), generator=seeds.generator(seed, "folds"))
    fold = torch.empty_like(order)
    fold[order] = torch.arange(len(x)) % FOLDS
    fold = fold.to(x.device)
    with few_threads(x):
        parts = [_tags_path(x, sign, fold == i, sorted(grid)) for i in range(FOLDS)]
        held_out = {c: torch.stack([part[c] for part in parts]).nanmean(0) for c in sorted(grid)}
        precision = torch.stack(list(held_out.values())).nan_to_num(-1.0)  # (grid, K)
        chosen = precision.argmax(0)  # the first of equals
        scores, converged = torch.empty(len(test_x), sign.shape[1], dtype=torch.float64), True
        test = (test_x.to(x) - mean) / scale  # (M, D)
        for i, c in enumerate(sorted(grid)):
            of = (chosen == i).nonzero().squeeze(1)
            if len(of):
                start = x.new_zeros(len(of), x.shape[1]), x.new_zeros(len(of))
                options = {"tolerance": FINAL, "iterations": 1000}
                samples = Samples(x, sign[:, of.to(x.device)])
                weight, bias, reached = solve(SIGNED_HINGE, samples, c, start, **options)
                converged &= reached
                scores[:, of] = (test @ widen(weight).T + bias).cpu()
    return TagsResult(scores, torch.tensor(sorted(grid))[chosen], held_out, converged)


def _signs(y: Tensor) -> Tensor:
    """1, -1 or, where it isn't said, 0."""
    return torch.where(y < 0, 0, 2 * y.long() - 1).double()


def _check_tags(x: Tensor, y: Tensor) -> None:
    if y.ndim != 2 or len(y) != len(x) or not torch.isin(y, torch.tensor([-1, 0, 1])).all():
        raise UserError(
            f"{len(x)} features and labels of shape {tuple(y.shape)}; give (N, K) of 0, 1 or -1"
        )
    poor = (((y == 1).sum(0) < 2) | ((y == 0).sum(0) < 1)).nonzero().squeeze(1)
    if len(poor):
        k = int(poor[0])
        raise UserError(
            f"{int((y[:, k] == 1).sum())} of {len(y)} training samples have label {k}; a machine "
            "needs two that have it and one that has not"
        )


def _tags_path(x: Tensor, sign: Tensor, held: Tensor, grid: list[float]) -> dict[float, Tensor]:
    """The average precisions (K,) on the held-out part for each C."""
    found, fit = {}, Samples(x[~held], sign[~held])
    weight, bias = x.new_zeros(sign.shape[1], x.shape[1]), x.new_zeros(sign.shape[1])
    truth = torch.where(sign[held] == 0, -1, sign[held] > 0)
    for c in grid:
        start = weight, bias
        weight, bias, _ = solve(SIGNED_HINGE, fit, c, start, tolerance=SEARCH, iterations=100)
        found[c] = average_precision(x[held] @ weight.T + bias, truth).area
    return found
