"""Slow float64 references of colorization (Zhang et al., arXiv 1603.08511) and of CIE Lab."""

import math

import numpy as np

Array = np.ndarray


def lab_of(rgb: Array) -> Array:
    """One sRGB colour (3,) in [0, 1] as L, a, b.

    IEC 61966-2-1 for the light of each primary and its share in X, Y, Z, here to the six digits
    that libraries use; CIE 15 for L, a, b under the standard's own white, D65 seen by 2 degrees.
    """
    light = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    shares = [
        (0.412453, 0.357580, 0.180423),
        (0.212671, 0.715160, 0.072169),
        (0.019334, 0.119193, 0.950227),
    ]
    white = (0.95047, 1.0, 1.08883)
    f = []
    for row, of_white in zip(shares, white, strict=True):
        t = sum(s * c for s, c in zip(row, light, strict=True)) / of_white
        f.append(t ** (1 / 3) if t > (6 / 29) ** 3 else t / (3 * (6 / 29) ** 2) + 4 / 29)
    fx, fy, fz = f
    return np.array([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)])


def soft_encoding(ab: Array, bins: Array, neighbours: int, sigma: float) -> Array:
    """Z (Q,) of one colour (2,): its nearest bins, weighted by a Gaussian of their distance.

    Section 2.1 below equation 1; the weights of a colour sum to one.
    """
    squares = [(ab[0] - a) ** 2 + (ab[1] - b) ** 2 for a, b in bins]
    nearest = sorted(range(len(bins)), key=lambda q: squares[q])[:neighbours]
    z = np.zeros(len(bins))
    for q in nearest:
        z[q] = math.exp(-squares[q] / (2 * sigma**2))
    return z / z.sum()


def rebalancing(prior: Array, mix: float) -> Array:
    """w (Q,) of equation 4, from the smoothed empirical distribution of colours (Q,)."""
    count = len(prior)
    w = np.array([1 / ((1 - mix) * p + mix / count) for p in prior])
    return w / sum(p * v for p, v in zip(prior, w, strict=True))


def colour_loss(scores: Array, z: Array, w: Array) -> float:
    """Equations 2 and 3 of scores (N, Q, H, W) and encodings Z (N, H, W, Q), mean over places.

    Each place counts by the weight of its most likely colour. The paper sums over places.
    """
    n, count, height, width = scores.shape
    losses = []
    for i in range(n):
        for y in range(height):
            for x in range(width):
                s = scores[i, :, y, x]
                total = math.log(sum(math.exp(v) for v in s))
                cross = -sum(z[i, y, x, q] * (s[q] - total) for q in range(count))
                losses.append(w[int(np.argmax(z[i, y, x]))] * cross)
    return float(np.mean(losses))


def annealed_mean(scores: Array, bins: Array, temperature: float) -> Array:
    """The colour (2,) that scores (Q,) stand for: equation 5, of the softmax of the scores."""
    p = np.exp(scores) / sum(np.exp(scores))
    f = np.exp(np.log(p) / temperature)
    return (f[:, None] * bins).sum(axis=0) / f.sum()
