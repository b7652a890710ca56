"""The two sides of an evidence lower bound, in nats of one sample."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from selftaught.precision import float32


@float32
def gaussian_nll(
    mean: Float[Tensor, "n ..."], x: Float[Tensor, "n ..."], variance: float
) -> Float[Tensor, ""]:
    """-log N(x; mean, variance I): a sum over numbers, a mean over samples.

    Kingma & Welling 2013, arXiv 1312.6114, appendix C.2, with one constant variance.
    """
    constant = 0.5 * math.log(2 * math.pi * variance) * x[0].numel()
    return (x - mean).square().sum() / (2 * variance * len(x)) + constant


@float32
def gaussian_kl(
    mean: Float[Tensor, "n d"], log_variance: Float[Tensor, "n d"]
) -> Float[Tensor, ""]:
    """KL divergence of N(mean, diag) from N(0, I): a sum over dimensions, a mean over samples.

    Kingma & Welling 2013, arXiv 1312.6114, appendix B.
    """
    each = torch.expm1(log_variance) - log_variance + mean.square()
    return 0.5 * each.sum(dim=1).mean()
