"""Slow float64 references of context encoders (Pathak et al., arXiv 1604.07379)."""

import math

import numpy as np

Array = np.ndarray


def channelwise(x: Array, weight: Array, bias: Array) -> Array:
    """Section 3.1: each channel's places (N, C, P) fully connected to its own, no others.

    ``weight`` (C, P, P) leads from the second axis to the third.
    """
    y = np.zeros_like(x)
    for n in range(x.shape[0]):
        for c in range(x.shape[1]):
            for q in range(x.shape[2]):
                y[n, c, q] = bias[c, q] + sum(
                    x[n, c, p] * weight[c, p, q] for p in range(x.shape[2])
                )
    return y


def hole_loss(painted: Array, real: Array, weight: Array) -> float:
    """Equation 1 of pictures (N, C, H, W), normalised: the mean over the pixels that count.

    ``weight`` (N, 1, H, W) is zero outside the hole. The mean is that of each picture's mean.
    """
    means = []
    for p, r, w in zip(painted, real, weight[:, 0], strict=True):
        total, count = 0.0, 0
        for y in range(w.shape[0]):
            for x in range(w.shape[1]):
                if w[y, x] > 0:
                    count += p.shape[0]
                    total += w[y, x] * sum((p[:, y, x] - r[:, y, x]) ** 2)
        means.append(total / count)
    return sum(means) / len(means)


def critic_loss(real: Array, painted: Array) -> float:
    """Equation 2, negated: log D of real pictures and log (1 - D) of painted ones, from logits."""
    d = lambda s: 1 / (1 + math.exp(-s))  # noqa: E731
    of_real = sum(math.log(d(s)) for s in real) / len(real)
    of_painted = sum(math.log(1 - d(s)) for s in painted) / len(painted)
    return -of_real - of_painted


def painter_loss(painted: Array) -> float:
    """What the painter minimises in the authors' code: -log D of what it painted."""
    return -sum(math.log(1 / (1 + math.exp(-s))) for s in painted) / len(painted)
