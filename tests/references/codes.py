"""Slow float64 references of methods with codes: autoencoders, VAE and VQ-VAE, from the papers."""

import math

import numpy as np

Array = np.ndarray


def squared_error(prediction: Array, target: Array) -> float:
    """The mean of the squared differences of all numbers."""
    pairs = zip(prediction.ravel().tolist(), target.ravel().tolist(), strict=True)
    errors = [(p - t) ** 2 for p, t in pairs]
    return sum(errors) / len(errors)


def pca_error(x: Array, components: int) -> float:
    """The mean squared error of the best ``components``-dimensional affine map of rows x (N, D).

    The sum of the smallest eigenvalues of the covariance, a number of x (Pearson 1901).
    """
    centred = x - x.mean(axis=0)
    values = np.linalg.eigvalsh(centred.T @ centred / len(x))  # rising
    return float(values[: x.shape[1] - components].sum() / x.shape[1])


# VAE


def gaussian_kl(mean: Array, log_variance: Array) -> float:
    """KL(q(z|x) || N(0, I)) in nats, the mean over rows.

    Kingma & Welling, arXiv 1312.6114, appendix B: minus one half of the sum over j of
    1 + log sigma_j^2 - mu_j^2 - sigma_j^2.
    """
    rows = []
    for mu, log_var in zip(mean.tolist(), log_variance.tolist(), strict=True):
        negative = sum(1 + v - m**2 - math.exp(v) for m, v in zip(mu, log_var, strict=True)) / 2
        rows.append(-negative)
    return sum(rows) / len(rows)


def gaussian_nll(mean: Array, x: Array, variance: float) -> float:
    """-log N(x; mean, variance I) in nats: a sum over numbers, a mean over samples."""
    rows = []
    for m, value in zip(mean, x, strict=True):
        total = 0.0
        for a, b in zip(m.ravel().tolist(), value.ravel().tolist(), strict=True):
            density = math.exp(-((b - a) ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)
            total -= math.log(density)
        rows.append(total)
    return sum(rows) / len(rows)


def log_normal(x: Array, mean: Array, covariance: Array) -> float:
    """log N(x; mean, covariance) of one vector."""
    difference = x - mean
    _, log_determinant = np.linalg.slogdet(2 * np.pi * covariance)
    return float(-0.5 * (log_determinant + difference @ np.linalg.inv(covariance) @ difference))


def kl_of_normals(m0: Array, s0: Array, m1: Array, s1: Array) -> float:
    """KL(N(m0, s0) || N(m1, s1)) of full covariances."""
    inverse = np.linalg.inv(s1)
    _, log0 = np.linalg.slogdet(s0)
    _, log1 = np.linalg.slogdet(s1)
    quadratic = (m1 - m0) @ inverse @ (m1 - m0)
    return float(0.5 * (np.trace(inverse @ s0) + quadratic - len(m0) + log1 - log0))


def linear_gaussian_elbo(
    x: Array, weight: Array, bias: Array, variance: float, mean: Array, log_variance: Array
) -> float:
    """The ELBO of z ~ N(0, I), x ~ N(weight z + bias, variance I) at q = N(mean, diag), one sample.

    By arXiv 1312.6114, equation 1: the log evidence less KL(q || the true posterior), both of which
    a linear model has in closed form.
    """
    dim = weight.shape[1]
    evidence = log_normal(x, bias, weight @ weight.T + variance * np.eye(len(x)))
    covariance = np.linalg.inv(np.eye(dim) + weight.T @ weight / variance)
    posterior = covariance @ weight.T @ (x - bias) / variance
    return evidence - kl_of_normals(mean, np.diag(np.exp(log_variance)), posterior, covariance)


# VQ-VAE


def nearest(z: Array, codebook: Array) -> Array:
    """The index of the nearest code of each row: van den Oord et al., arXiv 1711.00937, eq. 1."""
    found = []
    for row in z:
        distances = [float(np.sqrt(((row - code) ** 2).sum())) for code in codebook]
        found.append(distances.index(min(distances)))
    return np.array(found)


def vq_terms(z: Array, codebook: Array, beta: float) -> tuple[float, float]:
    """The second and the third term of arXiv 1711.00937, equation 3: codebook and commitment.

    An average over places, as the paper has it, and over dimensions, as the authors' code has it.
    """
    distances = [
        ((row - codebook[k]) ** 2).sum() / z.shape[1]
        for row, k in zip(z, nearest(z, codebook), strict=True)
    ]
    mean = float(sum(distances) / len(distances))
    return mean, beta * mean


def codebook_average(
    sizes: Array, sums: Array, z: Array, ids: Array, decay: float
) -> tuple[Array, Array, Array]:
    """One step of moving averages: new sizes N, sums m and codes e = m / N.

    arXiv 1711.00937, appendix A.1: N' = N decay + n (1 - decay), m' = m decay + (1 - decay) sum of
    the encoder's outputs that are nearest to the code.
    """
    new_sizes, new_sums = [], []
    for k in range(len(sizes)):
        own = [row for row, i in zip(z, ids, strict=True) if i == k]
        new_sizes.append(sizes[k] * decay + len(own) * (1 - decay))
        new_sums.append(sums[k] * decay + sum(own, np.zeros(z.shape[1])) * (1 - decay))
    n, m = np.array(new_sizes), np.array(new_sums)
    return n, m, m / n[:, None]


def perplexity(ids: Array, count: int) -> float:
    """2 to the entropy in bits of the codes' shares: how many codes are in even use."""
    entropy = 0.0
    for k in range(count):
        share = float((ids == k).mean())
        if share > 0:
            entropy -= share * math.log2(share)
    return 2**entropy
