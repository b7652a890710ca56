"""Predict which cluster a sample belongs to."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from selftaught.precision import float32


@torch.no_grad()
@float32
def sinkhorn(
    scores: Float[Tensor, "n k"],
    epsilon: float,
    iterations: int,
    present: Bool[Tensor, " n"] | None = None,
) -> Float[Tensor, "n k"]:
    """Codes: each sample's shares of the prototypes, each prototype's total made nearly equal.

    SwAV (Caron et al. 2020, arXiv 2006.09882), equations 3 to 5 and the listing of appendix A. Each
    of one or more iterations scales the prototypes first and the samples last, so rows sum to one
    exactly and columns in the limit; the first is in logarithms, after which no total is near 0.
    ``scores`` are those of the global batch. Samples that are not ``present`` take no part: codes
    are as if their rows were not there.
    """
    absent = None if present is None else ~present[:, None]
    codes = scores / epsilon
    codes -= (codes if absent is None else codes.masked_fill(absent, -torch.inf)).logsumexp(dim=0)
    codes = codes.softmax(dim=1)
    for _ in range(iterations - 1):
        codes /= (codes if absent is None else codes.masked_fill(absent, 0)).sum(dim=0)
        codes /= codes.sum(dim=1, keepdim=True)
    return codes


@float32
def swapped_prediction(
    scores: Float[Tensor, "n k"], codes: Float[Tensor, "n k"], temperature: float
) -> Float[Tensor, ""]:
    """Cross-entropy of one view's scores with the codes of another, which get no gradient.

    SwAV (Caron et al. 2020, arXiv 2006.09882), equation 2. With no information it is ln(K).
    """
    return F.cross_entropy(scores / temperature, codes.detach())


@float32
def centroid_prediction(
    z: Float[Tensor, "n d"],
    centroids: Float[Tensor, "k d"],
    cluster: Int[Tensor, " n"],
    temperature: float,
) -> Float[Tensor, ""]:
    """Cross-entropy of finding a sample's cluster by its cosines with unit centroids.

    DeepCluster-v2 (Caron et al. 2020, arXiv 2006.09882, appendix, and main_deepclusterv2.py of the
    authors' code). Samples of a cluster of -100 are left out of the mean.
    """
    scores = F.normalize(z, dim=1) @ centroids.T / temperature
    total = F.cross_entropy(scores, cluster, ignore_index=-100, reduction="sum")
    return total / (cluster != -100).sum().clamp(min=1)


@float32
def weighted_prediction(
    scores: Float[Tensor, "n k"], cluster: Int[Tensor, " n"], weight: Float[Tensor, " n"]
) -> Float[Tensor, ""]:
    """Cross-entropy of each sample with its cluster times its weight, mean over samples.

    DeepCluster (Caron et al. 2018, arXiv 1807.05520), equation 2 with the weights of section 3.3.
    Not divided by the weights of the batch, whose expectation would be another.
    """
    losses = F.cross_entropy(scores, cluster, ignore_index=-100, reduction="none")
    return (weight * losses).mean()
