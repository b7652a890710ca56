"""Slow float64 references of label-free signals, each from the whole matrix of features at once."""

import math

import numpy as np

from references.contrastive import unit

Array = np.ndarray


def rankme(Z: Array) -> float:
    """The effective rank of features `Z` (N, D), neither centred nor normalised.

    RankMe, arXiv 2210.02885, equation 1: exp(-sum p log p), p = s / sum(s) + 1e-7 over the
    min(N, D) singular values s. The p are not divided by their sum again. Not defined for Z = 0.
    """
    singular = np.linalg.svd(np.asarray(Z, np.float64), compute_uv=False)
    assert singular.sum() > 0
    p = singular / singular.sum() + 1e-7
    return math.exp(-sum(value * math.log(value) for value in p))


def feature_std(Z: Array) -> float:
    """The mean over dimensions of the standard deviation of the normalised rows, times sqrt(D).

    SimSiam, arXiv 2011.10566, section 4.1 and figure 2: about 1 where features point everywhere
    alike, 0 where all are one. The deviation is that of the population (divided by N).
    """
    rows = np.array([unit(row) for row in np.asarray(Z, np.float64)])
    deviations = []
    for column in rows.T:
        mean = sum(column) / len(column)
        deviations.append(math.sqrt(sum((column - mean) ** 2) / len(column)))
    return math.sqrt(len(deviations)) * sum(deviations) / len(deviations)


def mean_cosine(Z: Array) -> float:
    """The mean cosine similarity over all pairs of different rows of `Z` (N, D)."""
    rows = [unit(row) for row in np.asarray(Z, np.float64)]
    pairs = [rows[i] @ rows[j] for i in range(len(rows)) for j in range(i)]
    return float(np.mean(pairs))


def alpha(Z: Array) -> float:
    """The exponent of the decay of the covariance's eigenvalues over ranks 11 to 100.

    alpha-ReQ, Agrawal et al. 2022, by the fit of its code: log(eigenvalue) on -log(rank) and a
    constant, by the normal equations with weights 1 / rank. Ranks above the number of features are
    left out; there have to be 22 at least.
    """
    Z = np.asarray(Z, np.float64)
    assert min(Z.shape) >= 22
    values = np.linalg.svd(Z - Z.mean(0), compute_uv=False) ** 2
    A, b = np.zeros((2, 2)), np.zeros(2)
    for rank in range(11, min(100, len(values)) + 1):
        row = np.array([-math.log(rank), 1.0])
        A += np.outer(row, row) / rank
        b += row * math.log(values[rank - 1]) / rank
    return float(np.linalg.solve(A, b)[0])
