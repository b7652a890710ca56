"""Tell a sample's other view from everything else."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from selftaught.precision import float32


@float32
def nt_xent(
    z1: Float[Tensor, "n d"], z2: Float[Tensor, "n d"], temperature: float
) -> Float[Tensor, ""]:
    """Normalised-temperature cross-entropy, mean over the 2N anchors.

    SimCLR (Chen et al. 2020, arXiv 2002.05709), equation 1 and algorithm 1. Each row's positive is
    the same row of the other view; its negatives are the other 2N - 2 rows. With no information
    it is ln(2N - 1).
    """
    n = len(z1)
    z = F.normalize(torch.cat([z1, z2]), dim=1)  # (2N, D)
    scores = z @ z.T / temperature  # (2N, 2N)
    itself = torch.eye(2 * n, dtype=torch.bool, device=z.device)
    positive = torch.arange(2 * n, device=z.device).roll(n)
    return F.cross_entropy(scores.masked_fill(itself, float("-inf")), positive)
