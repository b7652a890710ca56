"""Views agree, and the features' dimensions stay spread and unlike one another."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from selftaught.precision import float32


def off_diagonal(square: Float[Tensor, "d d"]) -> Float[Tensor, " n"]:
    """All entries of a square matrix but its diagonal."""
    d = len(square)
    return square.flatten()[1:].view(d - 1, d + 1)[:, :-1].flatten()


@float32
def cross_correlation(
    z1: Float[Tensor, "n d"], z2: Float[Tensor, "n d"], weight: float
) -> Float[Tensor, ""]:
    """Squared distance of the views' cross-correlation matrix from the identity.

    Barlow Twins (Zbontar et al. 2021, arXiv 2103.03230), equations 1 and 2; ``weight`` is the
    paper's lambda. Each dimension is standardised over the batch with the biased variance plus
    1e-5, the batch norm of the authors' code.
    """
    n = len(z1)
    z1, z2 = ((z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt() for z in (z1, z2))
    correlation = z1.T @ z2 / n  # (D, D)
    agree = (correlation.diagonal() - 1).square().sum()
    return agree + weight * off_diagonal(correlation).square().sum()


@float32
def spread(z: Float[Tensor, "n d"], target: float = 1.0) -> Float[Tensor, ""]:
    """How far each dimension's standard deviation is below ``target``, mean over dimensions.

    VICReg (Bardes et al. 2021, arXiv 2105.04906), equations 1 and 2: the unbiased variance, and
    1e-4 added to it.
    """
    return F.relu(target - (z.var(dim=0) + 1e-4).sqrt()).mean()


@float32
def covariance(z: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Squared covariances of different dimensions, summed and divided by their number D.

    VICReg (Bardes et al. 2021, arXiv 2105.04906), equations 3 and 4.
    """
    n, d = z.shape
    z = z - z.mean(dim=0)
    return off_diagonal(z.T @ z / (n - 1)).square().sum() / d


@float32
def invariance(z1: Float[Tensor, "n d"], z2: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Mean squared difference of two views, over samples and dimensions.

    VICReg (Bardes et al. 2021, arXiv 2105.04906), equation 5, divided by D as in the authors' code.
    """
    return F.mse_loss(z1, z2)


@float32
def whiten(z: Float[Tensor, "*g k d"], epsilon: float = 0.0) -> Float[Tensor, "*g k d"]:
    """Rows of mean zero whose covariance is the identity, for each of several batches by itself.

    W-MSE (Ermolov et al. 2020, arXiv 2007.06346), section 3 and the authors' code: the centred rows
    times the inverse of the Cholesky factor of (1 - epsilon) S + epsilon I, with S the unbiased
    covariance. Not a number where that has no such factor, as where K <= D and epsilon is 0.
    """
    k, d = z.shape[-2:]
    z = z - z.mean(dim=-2, keepdim=True)
    s = (1 - epsilon) * (z.mT @ z / (k - 1)) + epsilon * torch.eye(
        d, dtype=z.dtype, device=z.device
    )
    factor, failed = torch.linalg.cholesky_ex(s)  # (..., D, D); raises nothing, so waits for none
    factor = factor.masked_fill((failed != 0)[..., None, None], math.nan)
    return torch.linalg.solve_triangular(factor, z.mT, upper=False).mT


@float32
def whitened_regression(
    z: Float[Tensor, "v n d"], sub_batch: int, epsilon: float = 0.0
) -> Float[Tensor, ""]:
    """Mean squared distance of a sample's whitened unit vectors, over all pairs of views.

    W-MSE (Ermolov et al. 2020, arXiv 2007.06346), section 3: each view's rows are whitened in runs
    of ``sub_batch`` neighbours. It is 2 - 2 cos, and 2 without information.
    """
    v, n, d = z.shape
    white = whiten(z.reshape(v, n // sub_batch, sub_batch, d), epsilon)
    z = F.normalize(white.reshape(v, n, d), dim=-1)
    one, other = torch.triu_indices(v, v, 1, device=z.device)
    return (z[one] - z[other]).square().sum(dim=-1).mean()


@float32
def waves(
    z: Float[Tensor, "*v n d"], directions: Float[Tensor, "d m"], t: Float[Tensor, " k"]
) -> Float[Tensor, "*v 2 m k"]:
    """The characteristic function, real and imaginary, of the rows along each direction.

    LeJEPA (Balestriero & LeCun 2025, arXiv 2511.08544), section 4.2.3: the mean over samples of
    exp(i t x). The mean over several equal batches is that of all their samples.
    """
    angle = (z @ directions).unsqueeze(-1) * t  # (..., N, M, K)
    return torch.stack([angle.cos().mean(dim=-3), angle.sin().mean(dim=-3)], dim=-3)


@float32
def epps_pulley(
    wave: Float[Tensor, "*v 2 m k"], t: Float[Tensor, " k"], count: int
) -> Float[Tensor, ""]:
    """How far ``count`` samples are from a standard Gaussian, mean over views and directions.

    SIGReg of LeJEPA (Balestriero & LeCun 2025, arXiv 2511.08544), section 4.2.3 and algorithm 1:
    count times the integral of the squared distance of the characteristic functions under the
    window exp(-t^2 / 2), by the trapezoid rule over the knots ``t`` = s, 2s, 3s, ..., their
    negatives, where it is the same, and 0, where it is zero. Its expectation for Gaussian samples,
    few or many, is about sqrt(2 pi) (1 - 1 / sqrt(3)).
    """
    normal = (-t.square() / 2).exp()
    real, imaginary = wave.unbind(dim=-3)  # (..., M, K)
    distance = (real - normal).square() + imaginary.square()
    weight = 2 * t[0] * normal
    weight = torch.cat([weight[:-1], weight[-1:] / 2])
    return count * (distance @ weight).mean()


@float32
def scatter(z: Float[Tensor, "v n d"], centres: int) -> Float[Tensor, ""]:
    """Mean squared distance of all views from the mean of a sample's first ``centres`` views.

    LeJEPA (Balestriero & LeCun 2025, arXiv 2511.08544), section 5.1 and algorithm 2: a mean over
    dimensions too, and the gradient of the centre is not stopped.
    """
    return (z - z[:centres].mean(dim=0)).square().mean()
