"""How good pictures are, without a network that somebody else trained."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from selftaught.errors import UserError

WINDOW, SIGMA = 11, 1.5  # of SSIM's Gaussian
K1, K2 = 0.01, 0.03
LEAST = 1e-10  # a mean squared error below which a pair counts as equal


def psnr(x: Float[Tensor, "n c s s"], y: Float[Tensor, "n c s s"]) -> Float[Tensor, " n"]:
    """Peak signal-to-noise ratio of each pair of images in [0, 1], in decibels.

    At most 100, which a pair that is equal has, so that a mean over pairs is finite.
    """
    error = (x.double() - y.double()).square().flatten(1).mean(1).clamp(min=LEAST)
    return -10 * error.log10()


def ssim(x: Float[Tensor, "n c s s"], y: Float[Tensor, "n c s s"]) -> Float[Tensor, " n"]:
    """Structural similarity of each pair of images in [0, 1], 1 where they are equal.

    Wang et al. 2004, "Image quality assessment: from error visibility to structural similarity",
    section III, with the Gaussian window of 11 pixels and sigma 1.5, over the places where the
    window lies inside the image, which must be as large. Of images in colour it is the mean over
    channels, each taken by itself.
    """
    if min(x.shape[2:]) < WINDOW:
        raise UserError(
            f"images of {min(x.shape[2:])} pixels are smaller than the {WINDOW} of a structural "
            "similarity; use a larger --size"
        )
    x, y = x.double(), y.double()
    mean_x, mean_y = _blurred(x), _blurred(y)
    var_x = _blurred(x * x) - mean_x**2
    var_y = _blurred(y * y) - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    c1, c2 = K1**2, K2**2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (var_x + var_y + c2)
    return (luminance * structure).flatten(1).mean(1)


def _blurred(x: Tensor) -> Tensor:
    place = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    weight = torch.exp(-(place**2) / (2 * SIGMA**2))
    weight = (weight / weight.sum()).expand(x.shape[1], 1, 1, -1)
    x = F.conv2d(x, weight, groups=x.shape[1])
    return F.conv2d(x, weight.transpose(2, 3), groups=x.shape[1])


def frechet(real: Float[Tensor, "n d"], made: Float[Tensor, "m d"]) -> float:
    """Frechet distance of two sets of features, each taken for a Gaussian.

    Heusel et al. 2017, arXiv 1706.08500, equation 6: |m - m'|^2 + tr(C + C' - 2 (C C')^1/2), with
    any encoder's features in the place of Inception's. It falls with the number of features: only
    distances of as many may be compared. Raises UserError for fewer than two features.
    """
    if min(len(real), len(made)) < 2:
        raise UserError("a distance of distributions needs two images of each; give more")
    a, b = real.double(), made.double()
    cov_a, cov_b = torch.atleast_2d(a.T.cov()), torch.atleast_2d(b.T.cov())
    values, vectors = torch.linalg.eigh(cov_a)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T  # of cov_a
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    shift = (a.mean(0) - b.mean(0)).square().sum()
    return float(shift + cov_a.trace() + cov_b.trace() - 2 * cross)


def precision_recall(
    real: Float[Tensor, "n d"], made: Float[Tensor, "m d"], k: int = 3
) -> tuple[float, float]:
    """Share of what was made that is like real images, and of the real that is like what was made.

    Kynkaanniemi et al. 2019, arXiv 1904.06991, equations 1 and 2: a feature is like a set where it
    lies no further from one of it than that one's k-th nearest neighbour does. Raises UserError for
    sets of k features or fewer.
    """
    if min(len(real), len(made)) <= k:
        raise UserError(f"{min(len(real), len(made))} images have no {k} neighbours; give more")
    return _covered(made, real, k), _covered(real, made, k)


def _covered(points: Tensor, others: Tensor, k: int, block: int = 1024) -> float:
    """Share of the points that lie within the k-th neighbour's radius of one of the others."""
    points, others = points.double(), others.double()
    radius = torch.cat(
        [torch.cdist(part, others).kthvalue(k + 1, dim=1).values for part in others.split(block)]
    )  # (M,), oneself counted
    inside = [(torch.cdist(part, others) <= radius).any(1) for part in points.split(block)]
    return torch.cat(inside).double().mean().item()
