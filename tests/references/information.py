"""Slow float64 references of objectives that maximise information, from the papers and their code.

Barlow Twins, VICReg, W-MSE and LeJEPA. Where a paper and its authors' code differ, the functions
follow the code, or take the choice as an argument, and say so.
"""

import math

import numpy as np

from references.contrastive import unit

Array = np.ndarray

SIGREG_PAPER = {"t_max": 5.0, "knots": 17}  # LeJEPA's Algorithm 1
SIGREG_CODE = {"t_max": 3.0, "knots": 33}  # its official code: 17 knots on [0, 3], mirrored


def covariance(z: Array) -> Array:
    """The unbiased covariance (D, D) of the rows of `z` (N, D): divided by N - 1."""
    z = np.asarray(z, np.float64)
    count, dim = z.shape
    mean = sum(z) / count
    total = np.zeros((dim, dim))
    for row in z:
        total += np.outer(row - mean, row - mean)
    return total / (count - 1)


def off_diagonal_squares(matrix: Array) -> float:
    """The sum of the squares of all elements off the diagonal."""
    count = len(matrix)
    return sum(matrix[i, j] ** 2 for i in range(count) for j in range(count) if i != j)


# Barlow Twins


def cross_correlation(z1: Array, z2: Array, epsilon: float = 1e-5) -> Array:
    """The cross-correlation (D, D) over the batch of `z1` and `z2` (N, D): rows of it are z1's.

    Barlow Twins, arXiv 2103.03230, equation 2, as in the official code: each dimension of each view
    passes a batch norm without scale and shift, so (z - mean) / sqrt(variance + epsilon) with the
    *biased* variance of the whole batch, and the products are summed and divided by N. Equation 2
    has no epsilon (give 0). The paper's Algorithm 1 divides by torch's unbiased deviation instead
    and then by N, so that its matrix is smaller by (N - 1) / N and never reaches the identity.
    """
    count, dim = z1.shape
    normed = []
    for z in (z1, z2):
        columns = []
        for column in z.astype(np.float64).T:
            mean = sum(column) / count
            variance = sum((column - mean) ** 2) / count
            columns.append((column - mean) / math.sqrt(variance + epsilon))
        normed.append(columns)
    c = np.zeros((dim, dim))
    for i in range(dim):
        for j in range(dim):
            c[i, j] = sum(normed[0][i] * normed[1][j]) / count
    return c


def correlation_loss(c: Array, weight: float) -> float:
    """The sum of (1 - C_ii)^2 plus `weight` times the sum of the C_ij^2 with i != j.

    Barlow Twins, arXiv 2103.03230, equation 1: sums, not means. The weight, lambda, is 0.005 in the
    paper and 0.0051 in the official code. (The code has no other factor on the loss.)
    """
    diagonal = sum((1 - c[i, i]) ** 2 for i in range(len(c)))
    return float(diagonal + weight * off_diagonal_squares(c))


def barlow_twins(z1: Array, z2: Array, weight: float, epsilon: float = 1e-5) -> float:
    """The Barlow Twins loss of N pairs, `z1` and `z2` (N, D): equation 1 of equation 2."""
    return correlation_loss(cross_correlation(z1, z2, epsilon), weight)


def barlow_twins_of_noise(variances: Array, noise: Array) -> float:
    """The loss in the limit of many samples if z1 = s + a and z2 = s + b, all independent.

    `variances` and `noise` (D,): those of s, whose dimensions are uncorrelated, and of a and b
    alike. Then C_ii = variance / (variance + noise) and C_ij = 0, whatever the weight and without
    epsilon.
    """
    return float(sum((n / (v + n)) ** 2 for v, n in zip(variances, noise, strict=True)))


# VICReg


def vicreg_terms(
    z1: Array, z2: Array, gamma: float = 1.0, epsilon: float = 1e-4
) -> tuple[float, float, float]:
    """The invariance, variance and covariance terms, in that order, of `z1` and `z2` (N, D).

    VICReg, arXiv 2105.04906, equations 1 to 5, with the constants of the official code:

    - invariance: the mean of (z1 - z2)^2 over N *and* D, as in the code and in the paper's own
      Algorithm 1. Equation 5 sums over D, and is D times this.
    - variance: per view, the mean over D of max(0, gamma - sqrt(variance + epsilon)), the variance
      being the unbiased one; then the *mean* of the two views, as in the code. Equation 6 and
      Algorithm 1 take their sum, twice this. So the weights 25, 25, 1 mean different things.
    - covariance: per view, 1 / D times the sum of the squared off-diagonal covariances (divided by
      N - 1, N being the whole batch); then the *sum* of the two views, in code and paper alike.
    """
    count, dim = z1.shape
    z1, z2 = z1.astype(np.float64), z2.astype(np.float64)
    invariance = sum(sum((a - b) ** 2) for a, b in zip(z1, z2, strict=True)) / (count * dim)
    variances, covariances = [], []
    for z in (z1, z2):
        c = covariance(z)
        hinges = [max(0.0, gamma - math.sqrt(c[j, j] + epsilon)) for j in range(dim)]
        variances.append(sum(hinges) / dim)
        covariances.append(off_diagonal_squares(c) / dim)
    return float(invariance), float(sum(variances) / 2), float(sum(covariances))


def vicreg(
    z1: Array, z2: Array, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0
) -> float:
    """The weighted sum of `vicreg_terms`, with the default weights of the official code.

    VICReg, arXiv 2105.04906, equation 6 and section 4.2: 25, 25 and 1.
    """
    terms = vicreg_terms(z1, z2)
    return invariance * terms[0] + variance * terms[1] + covariance * terms[2]


def paper_vicreg(
    z1: Array, z2: Array, invariance: float = 25.0, variance: float = 25.0, covariance: float = 1.0
) -> float:
    """VICReg's loss by the letter of equations 1 to 6: the first term D times, the second twice."""
    terms = vicreg_terms(z1, z2)
    return z1.shape[1] * invariance * terms[0] + 2 * variance * terms[1] + covariance * terms[2]


def vicreg_invariance_of_gaussian(mean: Array, covariance: Array) -> float:
    """The expected invariance term where z1 - z2 has this mean (D,) and covariance (D, D).

    E |u|^2 = |mean|^2 + trace(covariance), divided by D. (True for any distribution.)
    """
    return float((np.sum(mean**2) + np.trace(covariance)) / len(mean))


def vicreg_variance_of_gaussian(
    covariance: Array, gamma: float = 1.0, epsilon: float = 1e-4
) -> float:
    """The variance term of one view in the limit of many samples with this covariance (D, D)."""
    deviations = [math.sqrt(value + epsilon) for value in np.diag(covariance)]
    return float(sum(max(0.0, gamma - value) for value in deviations) / len(deviations))


def vicreg_covariance_of_gaussian(covariance: Array, count: int) -> float:
    """The expected covariance term of one view of `count` samples from N(any mean, covariance).

    The sample covariance C is Wishart(S, n - 1) / (n - 1), so E C_ij = S_ij and its variance is
    (S_ij^2 + S_ii S_jj) / (n - 1). Hence E C_ij^2 = S_ij^2 + (S_ij^2 + S_ii S_jj) / (n - 1), summed
    over i != j and divided by D. For S = I that is (D - 1) / (n - 1): never zero.
    """
    s, dim = covariance, len(covariance)
    total = 0.0
    for i in range(dim):
        for j in range(dim):
            if i != j:
                total += s[i, j] ** 2 + (s[i, j] ** 2 + s[i, i] * s[j, j]) / (count - 1)
    return float(total / dim)


# W-MSE


def whiten(z: Array, epsilon: float = 0.0) -> Array:
    """The rows of `z` (K, D), K > D, centred and whitened by the inverse of a Cholesky factor.

    W-MSE, arXiv 2007.06346, section 3, as in the official code: W (z - mean) with W = L^-1, where
    L L^T = (1 - epsilon) S + epsilon I, L is lower triangular, and S is the unbiased covariance
    (divided by K - 1). So W^T W is the inverse of the covariance. The code's epsilon is 0 by
    default, and shrinks S as well as it adds to it. Dimension i depends on dimensions 0 to i only.
    """
    z = np.asarray(z, np.float64)
    dim = z.shape[1]
    s = (1 - epsilon) * covariance(z) + epsilon * np.eye(dim)
    factor = np.zeros((dim, dim))
    for i in range(dim):
        for j in range(i + 1):
            rest = s[i, j] - sum(factor[i, k] * factor[j, k] for k in range(j))
            factor[i, j] = math.sqrt(rest) if i == j else rest / factor[j, j]
    mean = sum(z) / len(z)
    rows = []
    for row in z:
        white = []
        for i in range(dim):
            rest = row[i] - mean[i] - sum(factor[i, k] * white[k] for k in range(i))
            white.append(rest / factor[i, i])
        rows.append(white)
    return np.array(rows)


def w_mse(
    views: Array, permutations: Array, size: int, epsilon: float = 0.0, normalize: bool = True
) -> float:
    """The W-MSE loss of `views` (V, N, D), with sub-batches of `size` from `permutations` (T, N).

    W-MSE, arXiv 2007.06346, section 3, as in the official code. In each of the T iterations the
    rows permutation[0:size], permutation[size:2 size] and so on are whitened together, each *view*
    with its own mean and covariance but all views by the same permutation. The loss is the squared
    distance of two views of a row, averaged over rows, over the V (V - 1) / 2 pairs and over T.
    With `normalize` (the default of paper and code) the whitened vectors first get length one, and
    the squared distance is 2 - 2 cos. Without, the code's mean squared error is over rows *and* D.
    """
    count_views, count, dim = views.shape
    assert count % size == 0, (count, size)
    losses = []
    for permutation in permutations:
        white = np.zeros(views.shape)
        for start in range(0, count, size):
            rows = permutation[start : start + size]
            for v in range(count_views):
                white[v, rows] = whiten(views[v, rows], epsilon)
        for a in range(count_views):
            for b in range(a + 1, count_views):
                for n in range(count):
                    if normalize:
                        loss = np.sum((unit(white[a, n]) - unit(white[b, n])) ** 2)
                    else:
                        loss = np.sum((white[a, n] - white[b, n]) ** 2) / dim
                    losses.append(loss)
    return float(np.mean(losses))


# LeJEPA


def epps_pulley(x: Array, t_max: float, knots: int) -> float:
    """The Epps-Pulley statistic of numbers `x` (N,) against N(0, 1), by the trapezoid rule.

    LeJEPA, arXiv 2511.08544, section 4.2.3 and Algorithm 1: N times the integral over t of
    |mean_n exp(i t x_n) - exp(-t^2 / 2)|^2 w(t), on `knots` even points from -t_max to t_max, both
    included. The window is w(t) = exp(-t^2 / 2), as in Algorithm 1 and in the code; the paper's
    text has exp(-t^2 / sigma^2) with sigma 1, a narrower one. `x` is neither centred nor scaled.
    Algorithm 1 and section 6.1 have 17 knots on [-5, 5] (SIGREG_PAPER). The official code
    (EppsPulley and MINIMAL.md) has 17 on [0, 3] with all weights doubled but the one at 0, and half
    at 3: the integrand is even, so this is the rule with 33 knots on [-3, 3] (SIGREG_CODE). N is
    the number of samples on all devices.
    """
    step = 2 * t_max / (knots - 1)
    total = 0.0
    for k in range(knots):
        t = -t_max + k * step
        real = sum(math.cos(t * value) for value in x) / len(x)
        imaginary = sum(math.sin(t * value) for value in x) / len(x)
        normal = math.exp(-t * t / 2)
        weight = step / 2 if k in (0, knots - 1) else step
        total += weight * ((real - normal) ** 2 + imaginary**2) * math.exp(-t * t / 2)
    return len(x) * total


def epps_pulley_exact(x: Array) -> float:
    """The Epps-Pulley statistic with window exp(-t^2 / 2), integrated over the whole line.

    Multiply |mean exp(i t x) - exp(-t^2 / 2)|^2 out and use that the integral of
    exp(-a t^2 / 2) cos(b t) is sqrt(2 pi / a) exp(-b^2 / (2 a)): a is 1 and b = x_n - x_m for the
    pairs, a is 2 and b = x_n for the mixed term, a is 3 and b = 0 for the last. (This is the BHEP
    statistic in one dimension with beta = 1, times sqrt(2 pi).)
    """
    count = len(x)
    pairs = sum(math.exp(-((a - b) ** 2) / 2) for a in x for b in x) / count**2
    mixed = sum(math.exp(-a * a / 4) for a in x) / count / math.sqrt(2)
    return count * math.sqrt(2 * math.pi) * (pairs - 2 * mixed + 1 / math.sqrt(3))


def epps_pulley_of_gaussian(mean: float, variance: float, count: int) -> float:
    """The expectation of `epps_pulley_exact` over `count` samples from N(mean, variance).

    With f the characteristic function of one sample, E |mean_n exp(i t x_n) - g|^2 is
    |f - g|^2 + (1 - |f|^2) / N, where f = exp(i t mean - t^2 variance / 2) and g = exp(-t^2 / 2).
    The integrals are those of `epps_pulley_exact`, with a of 2 variance + 1, variance + 2, 3 and 1.
    For N(0, 1) the first part is zero and this is sqrt(2 pi) (1 - 1 / sqrt(3)) = 1.0594 for any N:
    that, not 0, is the floor of SIGReg for perfect embeddings.
    """
    squared = 1 / math.sqrt(2 * variance + 1)
    mixed = math.exp(-(mean**2) / (2 * (variance + 2))) / math.sqrt(variance + 2)
    distance = squared - 2 * mixed + 1 / math.sqrt(3)
    return math.sqrt(2 * math.pi) * (count * distance + 1 - squared)


def sigreg(z: Array, directions: Array, t_max: float, knots: int) -> float:
    """The mean Epps-Pulley statistic of `z` (N, D) over unit `directions` (D, M), its columns.

    LeJEPA, arXiv 2511.08544, section 4.2 and Algorithm 1: z is projected as it is. The paper and
    code draw the columns from N(0, I), divide each by its length, and draw anew at every step.
    """
    np.testing.assert_allclose(np.sum(directions**2, axis=0), 1, rtol=1e-6)
    statistics = [epps_pulley([row @ a for row in z], t_max, knots) for a in directions.T]
    return float(sum(statistics) / len(statistics))


def lejepa_prediction(views: Array, global_count: int) -> float:
    """The mean of (centre - z)^2 over all `views` (V, N, D): over V, N *and* D.

    LeJEPA, arXiv 2511.08544, section 5.1 and Algorithm 2: the centre of each image is the mean of
    its embeddings in the first `global_count` views, and *all* views, the global ones too, are
    compared with it. Its gradient is not stopped. The equation in the paper's text sums over D
    (D times this); Algorithm 2 and MINIMAL.md, whose views are all global, take the mean.
    """
    count_views, count, dim = views.shape
    total = 0.0
    for n in range(count):
        centre = sum(views[v, n] for v in range(global_count)) / global_count
        for v in range(count_views):
            total += np.sum((centre - views[v, n]) ** 2)
    return float(total / (count_views * count * dim))


def lejepa(
    views: Array, global_count: int, directions: Array, weight: float, t_max: float, knots: int
) -> float:
    """The LeJEPA loss of `views` (V, N, D), the first `global_count` of which are global.

    LeJEPA, arXiv 2511.08544, section 5.1 and Algorithm 2: (1 - weight) times the prediction plus
    weight times the mean over views of `sigreg`. Each view is tested on its own, with N samples,
    all by the same directions. The paper recommends a weight of 0.05; MINIMAL.md runs with 0.02.
    """
    prediction = lejepa_prediction(views, global_count)
    gaussianity = sum(sigreg(z, directions, t_max, knots) for z in views) / len(views)
    return (1 - weight) * prediction + weight * gaussianity
