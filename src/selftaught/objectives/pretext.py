"""Tell what was done to a sample, which is known because it was done on purpose."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from selftaught.precision import float32


@float32
def transformation(scores: Float[Tensor, "*n k"], which: Int[Tensor, "*n"]) -> Float[Tensor, ""]:
    """Cross-entropy of telling which of k transformations each sample went through.

    Rotations (Gidaris et al. 2018, arXiv 1803.07728, equations 2 and 3), permutations of tiles
    (Noroozi & Favaro 2016, arXiv 1603.09246, section 3) and places of neighbours (Doersch et al.
    2015, arXiv 1505.05192, section 3). With no information, and all equally often, it is ln(k).
    """
    return F.cross_entropy(scores.flatten(0, -2), which.flatten())
