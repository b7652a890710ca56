"""Linear classifiers on frozen features, as convex problems that L-BFGS solves."""

import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import minimize
from threadpoolctl import ThreadpoolController
from torch import Tensor
from torch.nn import functional as F

from selftaught.errors import UserError

#: The values of C that are tried, from the strongest penalty to the weakest.
GRID = tuple(float(f"{digit}e{power}") for power in range(-5, 2) for digit in (1, 3)) + (100.0,)
#: Largest entry of the mean loss's gradient, in the coordinates of ``solve``, at which a fit ends:
#: along the grid, and in the fit that is returned. On Fashion-MNIST the second's
#: accuracy is within 0.02 points of that at a hundredth of it.
SEARCH, FINAL = 1e-3, 1e-4
SMALL = 2**21  # entries of the features, below which several threads gain little
MANY = 5000  # samples from which on a fit goes most of its way in float32, for speed


class Loss(NamedTuple):
    """The loss of scores (N, K) for labels, (N,) or (N, K), and about how it bends."""

    value: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]  # its sum, and its slope (N, K)
    curvature: float  # second derivative by one score, typically


def _cross_entropy(scores: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    rows = torch.arange(len(y), device=y.device)
    log_p = F.log_softmax(scores, dim=1)
    loss = -log_p[rows, y].sum()
    slope = log_p.exp_()
    slope[rows, y] -= 1
    return loss, slope


def _squared_hinge(scores: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    return _hinge(scores, torch.full_like(scores, -1.0).scatter_(1, y[:, None], 1.0))


def _hinge(scores: Tensor, sign: Tensor) -> tuple[Tensor, Tensor]:
    """Squared; ``sign`` (N, K) is 0 where a score counts for nothing."""
    sign = sign.to(scores)
    short = (sign.abs() - sign * scores).clamp_(min=0)
    return short.square().sum(), -2 * sign * short


CROSS_ENTROPY = Loss(_cross_entropy, 0.1)
SQUARED_HINGE = Loss(_squared_hinge, 0.5)
SIGNED_HINGE = Loss(_hinge, 0.5)


class Samples:
    """Features in float64, their classes, and what every fit to them needs."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y  # (N, D), (N,)
        self.moment = x.T @ x / len(x)  # (D, D)
        self.passes = [x] if len(x) < MANY else [x.float(), x]


def spanned(x: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """Samples (N, D) in coordinates of the space that they span, and what takes weights back.

    Weights (K, N) that solve a problem there are returned as those (K, D) that solve it as it was:
    the penalty leaves nothing outside the samples' span. Samples that are as many as their features
    or more stay as they are; of fewer, a matrix of all pairs of features would be the larger one.
    """
    if len(x) >= x.shape[1]:
        return x, lambda weight: weight
    basis, coordinates = torch.linalg.qr(x.T)  # (D, N), (N, N)
    return coordinates.T.contiguous(), lambda weight: weight @ basis.T


@contextmanager
def few_threads(x: Tensor) -> Iterator[None]:
    """Inside, no more threads than fits to features x have work for, so that none waits long.

    Idle threads keep their cores busy for a while. SciPy's would do so while PyTorch's work, and
    PyTorch's own, where they have little to do, wherever other programs want the cores.
    """
    threads = torch.get_num_threads()
    with _pools().limit(limits=1, user_api="blas"):
        torch.set_num_threads(1 if x.numel() < SMALL else threads)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


@functools.cache
def _pools() -> ThreadpoolController:
    return ThreadpoolController()


def solve(
    loss: Loss,
    samples: Samples,
    c: float,
    start: tuple[Tensor, Tensor],
    *,
    tolerance: float,
    iterations: int,
) -> tuple[Tensor, Tensor, bool]:
    """Weights (K, D), bias (K,) and whether they converged, in float64.

    Minimises the mean loss + |W|^2 / (2 C N), the bias free.

    L-BFGS moves V = W L and not W, where L L^T = h X^T X / N + 1 / C N is about the Hessian of one
    class, h the loss's curvature: in V the problem is nearly round, and its gradient has the same
    scale for all features. Many samples are gone through in float32 until rounding or the tolerance
    ends that, and then in float64 until the tolerance does.
    """
    dim, moment = samples.x.shape[1], samples.moment
    penalty, curvature = 1 / (c * len(samples.x)), loss.curvature
    identity = torch.eye(dim, dtype=moment.dtype, device=moment.device)
    to_v = torch.linalg.cholesky(curvature * moment + penalty * identity)
    to_w = torch.linalg.inv(to_v)

    def split(v: np.ndarray) -> tuple[Tensor, Tensor]:
        table = torch.from_numpy(v).to(moment.device).view(-1, dim + 1)
        return table[:, :-1] @ to_w, table[:, -1] * curvature**-0.5

    def objective(v: np.ndarray, x: Tensor) -> tuple[float, np.ndarray]:
        weight, bias = split(v)
        total, error = loss.value(torch.addmm(bias.to(x), x, weight.to(x).T), samples.y)  # (N, K)
        value = penalty / 2 * weight.square().sum() + total / len(x)
        error = error.T.contiguous() / len(x)  # (K, N)
        slope = ((error @ x).to(weight) + penalty * weight) @ to_w.T
        outer = error.sum(dim=1, keepdim=True).to(weight) * curvature**-0.5
        return value.item(), torch.cat([slope, outer], dim=1).flatten().cpu().numpy()

    weight, bias = start
    v = torch.cat([weight @ to_v, bias[:, None] * curvature**0.5], dim=1).flatten().cpu().numpy()
    options = {"gtol": tolerance, "ftol": 0.0, "maxcor": 30, "maxiter": iterations}
    slope = v
    for x in samples.passes:
        found = minimize(objective, v, (x,), "L-BFGS-B", jac=True, options=options)
        v, slope = found.x, found.jac
    return *split(v), bool(np.abs(slope).max() <= tolerance)


def doubts(held_out: Mapping[float, float], *, converged: bool) -> str:
    """What is to be said beside a fit's number, if anything, by its result on held-out parts by C.

    Whether it ran out of iterations, and whether the best C is the first or the last that was
    tried and better than its neighbour, so that one beyond the grid may be better still.
    """
    found, grid = [] if converged else ["the fit did not converge"], sorted(held_out)
    if len(grid) > 1:
        best = max(grid, key=lambda c: (held_out[c], -c))
        beside = {grid[0]: grid[1], grid[-1]: grid[-2]}.get(best)
        if beside is not None and held_out[best] > held_out[beside]:
            found.append(f"C is at the edge of what was tried ({best:g})")
    return "; ".join(found)


def moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and scale of each feature; the scale of a constant one is its size, or 1 for zeros."""
    std, mean = torch.std_mean(x, dim=0, correction=0)
    size = x.abs().amax(dim=0)
    scale = torch.where(std > 1e-6 * size, std, size)
    return mean, scale.where(scale > 0, 1)


def folds(y: np.ndarray, seed: int, count: int) -> Tensor:
    """(N,) the fold of each sample, from 0, each class in proportion; -1 for one of each class.

    Those are in no fold, so that no fold holds the whole of a class.
    """
    shuffled = np.random.default_rng(seed).permutation(len(y))
    ordered = shuffled[np.argsort(y[shuffled], kind="stable")]
    first = np.unique(y[ordered], return_index=True)[1]
    spare = np.delete(ordered, first)
    fold = torch.full((len(y),), -1)
    fold[torch.from_numpy(spare)] = torch.arange(len(spare)) % count
    return fold


def check_features(train_x: Tensor, test_x: Tensor) -> None:
    """Raises UserError for features that no linear classifier can be fitted to."""
    if train_x.ndim != 2 or test_x.ndim != 2 or train_x.shape[1] != test_x.shape[1]:
        raise UserError(
            f"features of shapes {tuple(train_x.shape)} and {tuple(test_x.shape)}; "
            "a linear classifier needs (N, D) and (M, D)"
        )
    if not (train_x.isfinite().all() and test_x.isfinite().all()):
        raise UserError("features hold NaN or infinity; find the encoder's bad outputs first")


def check(train_x: Tensor, train_y: Tensor, test_x: Tensor, classes: int | None) -> None:
    """Raises UserError for features and labels that no linear classifier can be fitted to."""
    check_features(train_x, test_x)
    if train_y.shape != (len(train_x),) or train_y.is_floating_point():
        raise UserError(
            f"{len(train_x)} features and {train_y.dtype} labels of shape {tuple(train_y.shape)}; "
            "give one integer label for each"
        )
    present, counts = train_y.unique(return_counts=True)
    if len(present) < 2 or counts.max() < 2:
        raise UserError(
            f"{len(train_y)} training labels of {len(present)} classes; a linear classifier needs "
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
