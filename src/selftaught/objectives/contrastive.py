"""Tell a sample's other view from everything else."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from selftaught.precision import float32


@float32
def nt_xent(
    z1: Float[Tensor, "n d"],
    z2: Float[Tensor, "n d"],
    temperature: float,
    negatives: Float[Tensor, "m d"] | None = None,
) -> Float[Tensor, ""]:
    """Normalised-temperature cross-entropy, mean over the 2N anchors.

    SimCLR (Chen et al. 2020, arXiv 2002.05709), equation 1 and algorithm 1. Each row's positive is
    the same row of the other view; its negatives are the other 2N - 2 rows. With no information
    it is ln(2N - 1).

    SimCLR v2 (Chen et al. 2020, arXiv 2006.10029), section 2, adds M ``negatives`` that all anchors
    share; they get no gradient.
    """
    n = len(z1)
    z = F.normalize(torch.cat([z1, z2]), dim=1)  # (2N, D)
    scores = z @ z.T / temperature  # (2N, 2N)
    itself = torch.eye(2 * n, dtype=torch.bool, device=z.device)
    positive = torch.arange(2 * n, device=z.device).roll(n)
    scores = scores.masked_fill(itself, float("-inf"))
    if negatives is not None:
        more = z @ F.normalize(negatives.detach(), dim=1).T / temperature  # (2N, M)
        scores = torch.cat([scores, more], dim=1)
    return F.cross_entropy(scores, positive)


@float32
def info_nce(
    q: Float[Tensor, "n d"], k: Float[Tensor, "n d"], negatives: Float[Tensor, "m d"], t: float
) -> Float[Tensor, ""]:
    """Cross-entropy of each query's own key against negatives that all queries share.

    MoCo (He et al. 2019, arXiv 1911.05722), equation 1, temperature ``t``. Keys and negatives get
    no gradient. With no information it is ln(M + 1).
    """
    q, k, negatives = (F.normalize(x, dim=1) for x in (q, k.detach(), negatives.detach()))
    positive = (q * k).sum(dim=1, keepdim=True)  # (N, 1)
    scores = torch.cat([positive, q @ negatives.T], dim=1) / t  # (N, M + 1)
    return F.cross_entropy(scores, scores.new_zeros(len(q), dtype=torch.long))


@float32
def matching(
    q: Float[Tensor, "n d"], k: Float[Tensor, "n d"], temperature: float
) -> Float[Tensor, ""]:
    """Cross-entropy of finding, for each row of q, the same row among all rows of k.

    InfoNCE within the batch: MoCo v3 (Chen et al. 2021, arXiv 2104.02057), algorithm 1 without its
    factor; NNCLR (Dwibedi et al. 2021, arXiv 2104.14548), equation 3. With no information it is
    ln(N).
    """
    scores = F.normalize(q, dim=1) @ F.normalize(k, dim=1).T / temperature  # (N, N)
    return F.cross_entropy(scores, torch.arange(len(q), device=q.device))


@torch.no_grad()
@float32
def nearest(z: Float[Tensor, "n d"], support: Float[Tensor, "m d"]) -> Float[Tensor, "n d"]:
    """For each row of z the row of ``support`` at the smallest angle, without a gradient.

    NNCLR (Dwibedi et al. 2021, arXiv 2104.14548), equation 2, for a support set of unit vectors.
    """
    return support[(z @ support.T).argmax(dim=1)]
