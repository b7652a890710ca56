"""Multinomial logistic regression on frozen features."""

from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn import functional as F

from selftaught.errors import UserError

#: The values of C that are tried, from the strongest penalty to the weakest.
GRID = tuple(float(f"{digit}e{power}") for power in range(-5, 2) for digit in (1, 3)) + (100.0,)
#: Largest entry of the mean loss's gradient, in the coordinates of ``_fit``, at which a fit ends:
#: along the grid, and in the fit that is returned. On Fashion-MNIST the second's
#: accuracy is within 0.02 points of that at a hundredth of it.
SEARCH, FINAL = 1e-3, 1e-4


class LogregResult(NamedTuple):
    """What logistic regression found; ``held_out`` shows whether C lies at the grid's edge."""

    predictions: Tensor  # (M,) int64, on the CPU
    C: float  #: the inverse penalty that was chosen, in scikit-learn's meaning
    held_out: dict[float, float]  #: accuracy on the held-out part of train, by C
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
    that ``seed`` holds out, each class in proportion; of equals, the smallest. The last fit is on
    all of train. Test data take no part in any choice.

    A class with one sample is never held out. Classes that do not occur in train are not predicted.
    ``converged`` is false where the last fit ran out of iterations: then say so beside the number.

    Raises ``UserError`` for shapes that do not fit, features that are not finite, fewer than two
    classes, no class with two samples, and, where ``classes`` is given, for labels outside
    [0, ``classes``) and for classes without a training sample.
    """
    _check(train_x, train_y, test_x, classes)
    present, y = train_y.to(train_x.device).long().unique(return_inverse=True)
    x = train_x.double()
    mean, scale = _moments(x)
    x = (x - mean) / scale
    held = _tenth(y.cpu().numpy(), seed).to(x.device)
    accuracy, starts = _path(x, y, held, len(present), sorted(grid))
    best = max(accuracy, key=lambda c: (accuracy[c], -c))
    weight, bias, converged = _fit(x, y, best, starts[best], FINAL, 1000)
    weight = weight / scale
    bias = bias - weight @ mean
    scores = test_x.to(weight) @ weight.T + bias  # (M, K)
    predictions = present[scores.argmax(dim=1)].cpu()
    return LogregResult(predictions, best, accuracy, converged, present.cpu(), weight, bias)


def _path(
    x: Tensor, y: Tensor, held: Tensor, classes: int, grid: list[float]
) -> tuple[dict[float, float], dict[float, tuple[Tensor, Tensor]]]:
    """Held-out accuracy and solution for each C, every fit starting from the one before."""
    accuracy, solutions = {}, {}
    x_fit, y_fit, x_held, y_held = x[~held], y[~held], x[held], y[held]
    weight, bias = x.new_zeros(classes, x.shape[1]), x.new_zeros(classes)
    for c in grid:
        weight, bias, _ = _fit(x_fit, y_fit, c, (weight, bias), SEARCH, 100)
        hits = (x_held @ weight.T + bias).argmax(dim=1) == y_held
        accuracy[c], solutions[c] = hits.double().mean().item(), (weight, bias)
    return accuracy, solutions


def _fit(
    x: Tensor, y: Tensor, c: float, start: tuple[Tensor, Tensor], tolerance: float, iterations: int
) -> tuple[Tensor, Tensor, bool]:
    """Weights (K, D), bias (K,) and whether they converged.

    L-BFGS moves V = W L and not W, where L L^T = X^T X / 10 N + 1 / C N is about the Hessian of one
    class: in V the problem is nearly round, and its gradient has the same scale for all features.
    """
    n, dim = x.shape
    penalty, curvature = 1 / (c * n), 0.1
    hessian = x.T @ x * (curvature / n) + penalty * torch.eye(dim, dtype=x.dtype, device=x.device)
    to_v = torch.linalg.cholesky(hessian)
    to_w = torch.linalg.inv(to_v)
    rows = torch.arange(n, device=x.device)

    def split(v: np.ndarray) -> tuple[Tensor, Tensor]:
        table = torch.from_numpy(v).to(x.device).view(-1, dim + 1)
        return table[:, :-1] @ to_w, table[:, -1] * curvature**-0.5

    def objective(v: np.ndarray) -> tuple[float, np.ndarray]:
        weight, bias = split(v)
        log_p = F.log_softmax(torch.addmm(bias, x, weight.T), dim=1)  # (N, K)
        loss = penalty / 2 * weight.square().sum() - log_p[rows, y].mean()
        error = log_p.exp_()
        error[rows, y] -= 1
        error = error.T.contiguous() / n  # (K, N)
        slope = (error @ x + penalty * weight) @ to_w.T
        slope = torch.cat([slope, error.sum(dim=1, keepdim=True) * curvature**-0.5], dim=1)
        return loss.item(), slope.flatten().cpu().numpy()

    weight, bias = start
    v = torch.cat([weight @ to_v, bias[:, None] * curvature**0.5], dim=1).flatten().cpu().numpy()
    options = {"gtol": tolerance, "ftol": 0.0, "maxcor": 30, "maxiter": iterations}
    found = minimize(objective, v, jac=True, method="L-BFGS-B", options=options)
    converged = bool(np.abs(found.jac).max() <= tolerance)
    return *split(found.x), converged


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and scale of each feature; the scale of a constant one is its size, or 1 for zeros."""
    std, mean = torch.std_mean(x, dim=0, correction=0)
    size = x.abs().amax(dim=0)
    scale = torch.where(std > 1e-6 * size, std, size)
    return mean, scale.where(scale > 0, 1)


def _tenth(y: np.ndarray, seed: int) -> Tensor:
    """(N,) bool: a tenth of the samples, each class in proportion, never the whole of a class."""
    shuffled = np.random.default_rng(seed).permutation(len(y))
    ordered = shuffled[np.argsort(y[shuffled], kind="stable")]
    first = np.unique(y[ordered], return_index=True)[1]
    spare = np.delete(ordered, first)
    held = torch.zeros(len(y), dtype=torch.bool)
    held[torch.from_numpy(spare[::10])] = True
    return held


def _check(train_x: Tensor, train_y: Tensor, test_x: Tensor, classes: int | None) -> None:
    if train_x.ndim != 2 or test_x.ndim != 2 or train_x.shape[1] != test_x.shape[1]:
        raise UserError(
            f"features of shapes {tuple(train_x.shape)} and {tuple(test_x.shape)}; "
            "logistic regression needs (N, D) and (M, D)"
        )
    if train_y.shape != (len(train_x),) or train_y.is_floating_point():
        raise UserError(
            f"{len(train_x)} features and {train_y.dtype} labels of shape {tuple(train_y.shape)}; "
            "give one integer label for each"
        )
    if not (train_x.isfinite().all() and test_x.isfinite().all()):
        raise UserError("features hold NaN or infinity; find the encoder's bad outputs first")
    present, counts = train_y.unique(return_counts=True)
    if len(present) < 2 or counts.max() < 2:
        raise UserError(
            f"{len(train_y)} training labels of {len(present)} classes; logistic regression needs "
            "two classes, and one of them twice so that C can be chosen on held-out samples"
        )
    if present[0] < 0 or (classes is not None and present[-1] >= classes):
        top = "infinity" if classes is None else classes
        raise UserError(
            f"labels run from {present[0]} to {present[-1]}; they must lie in [0, {top})"
        )
    if classes is not None and len(present) < classes:
        missing = sorted(set(range(classes)) - set(present.tolist()))
        raise UserError(
            f"no training sample of {len(missing)} classes, {missing[0]} the first; add some, or "
            "leave these classes out of the test"
        )
