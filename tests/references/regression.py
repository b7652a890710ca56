"""Slow float64 references of BYOL's objective and moving average, from the paper's equations."""

import math

import numpy as np

from references.contrastive import unit

Array = np.ndarray


def cosine_regression(p: Array, z: Array) -> float:
    """The mean over the batch of the squared distance of normalised rows, `p` and `z` (B, D).

    BYOL, arXiv 2006.07733, equation 2, one direction: ||p/|p| - z/|z|||^2 = 2 - 2 cos(p, z), from
    0 to 4. The symmetric loss of the paper is the sum, not the mean, of the two directions.
    """
    losses = []
    for prediction, target in zip(p.astype(np.float64), z.astype(np.float64), strict=True):
        losses.append(np.sum((unit(prediction) - unit(target)) ** 2))
    return float(np.mean(losses))


def byol_momentum(step: int, total: int, base: float = 0.996) -> float:
    """The target's momentum at `step` of `total`: `base` at step 0, 1 at step `total` and after.

    BYOL, arXiv 2006.07733, implementation details: 1 - (1 - base) (cos(pi k / K) + 1) / 2.
    """
    return 1 - (1 - base) * (math.cos(math.pi * min(step, total) / total) + 1) / 2


def ema(target: Array, online: Array, momentum: float) -> Array:
    """The moved target: momentum * target + (1 - momentum) * online (BYOL, equation 1)."""
    target, online = np.asarray(target, np.float64), np.asarray(online, np.float64)
    return momentum * target + (1 - momentum) * online
