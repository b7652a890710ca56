"""Slow float64 references of batch normalisation in groups, and shuffled, in training mode."""

import math

import numpy as np

Array = np.ndarray


def batch_norm(
    x: Array,
    running_mean: Array,
    running_var: Array,
    groups: int = 1,
    momentum: float = 0.1,
    epsilon: float = 1e-5,
) -> tuple[Array, Array, Array]:
    """Normalise `x`, (N, D) or (N, C, H, W), in `groups` runs of N / groups neighbouring rows.

    Batch normalisation, arXiv 1502.03167, Algorithm 1, without scale and shift: in each group each
    channel becomes (value - mean) / sqrt(variance + epsilon), with that group's own mean and
    *biased* variance over its rows (and all positions). Returns y and the new running statistics
    (D,) or (C,): old + momentum * (new - old), where new is the mean over groups of the group means
    and of the group's *unbiased* variances (divided by count - 1), as in Algorithm 2, step 10. One
    group is ordinary batch norm; G groups are G devices without synchronisation, save that those
    would each keep running statistics of their own (PyTorch's data parallelism takes rank 0's).
    The mean of the group variances leaves out the variance between groups, so it is not the
    variance of the batch.
    """
    assert len(x) % groups == 0, (len(x), groups)
    size, channels = len(x) // groups, x.shape[1]
    y = np.zeros(x.shape)
    new_mean, new_var = np.zeros(channels), np.zeros(channels)
    for g in range(groups):
        rows = slice(g * size, (g + 1) * size)
        for c in range(channels):
            values = x[rows, c].astype(np.float64)
            count = values.size
            assert count > 1, "the unbiased variance needs two values"
            mean = np.sum(values) / count
            squares = np.sum((values - mean) ** 2)
            y[rows, c] = (values - mean) / math.sqrt(squares / count + epsilon)
            new_mean[c] += mean / groups
            new_var[c] += squares / (count - 1) / groups
    return (
        y,
        (1 - momentum) * np.asarray(running_mean, np.float64) + momentum * new_mean,
        (1 - momentum) * np.asarray(running_var, np.float64) + momentum * new_var,
    )


def shuffled_batch_norm(
    x: Array,
    permutation: Array,
    running_mean: Array,
    running_var: Array,
    groups: int,
    momentum: float = 0.1,
    epsilon: float = 1e-5,
) -> tuple[Array, Array, Array]:
    """`batch_norm` of the rows in the order `permutation` (N,), put back into their first order.

    MoCo, arXiv 1911.05722, section 3.3, as in its official code: the shuffled batch is
    x[permutation], whose place i holds row permutation[i]; runs of neighbours in it are the groups.
    MoCo shuffles the images of the key encoder before all its layers and restores its outputs; for
    one layer that is this function, for more layers the same groups hold in each.
    """
    shuffled = np.array([x[row] for row in permutation])
    normed, mean, var = batch_norm(shuffled, running_mean, running_var, groups, momentum, epsilon)
    y = np.zeros(x.shape)
    for place, row in enumerate(permutation):
        y[row] = normed[place]
    return y, mean, var
