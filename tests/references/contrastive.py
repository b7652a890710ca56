"""Slow float64 references of contrastive objectives, written from the papers' equations."""

from collections.abc import Callable

import numpy as np

Array = np.ndarray


def unit(v: Array) -> Array:
    """The vector `v` divided by its length; a vector of length zero stays zero."""
    return v / max(np.sqrt(np.sum(v * v)), 1e-12)


def nt_xent(z1: Array, z2: Array, temperature: float) -> float:
    """The NT-Xent loss of N pairs, `z1` and `z2` (N, D), of any length: they are normalised here.

    SimCLR, arXiv 2002.05709, equation 1 and Algorithm 1: the mean over all 2N anchors of
    -log(exp(sim(i, j) / T) / sum over k != i of exp(sim(i, k) / T)), j being the other view of i.
    The denominator holds 2N - 1 terms: the positive and the 2N - 2 negatives, never the anchor.
    """
    count = len(z1)
    z = [unit(row) for row in np.concatenate([z1, z2]).astype(np.float64)]
    losses = []
    for i in range(2 * count):
        j = (i + count) % (2 * count)
        positive = z[i] @ z[j] / temperature
        others = [z[i] @ z[k] / temperature for k in range(2 * count) if k != i]
        losses.append(np.logaddexp.reduce(others) - positive)
    return float(np.mean(losses))


def numerical_gradient(f: Callable[[Array], float], x: Array, step: float = 1e-5) -> Array:
    """The gradient of a scalar function at `x` by central differences, in the shape of `x`.

    Its error is about step^2 / 6 times the third derivative plus 1e-16 |f| / step: some 1e-10 to
    1e-8 for losses of order one at the default step.
    """
    x = np.array(x, dtype=np.float64)
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        above, below = x.copy(), x.copy()
        above[index] += step
        below[index] -= step
        gradient[index] = (f(above) - f(below)) / (2 * step)
    return gradient
