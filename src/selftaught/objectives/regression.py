"""Predict another view's representation."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from selftaught.precision import float32


@float32
def negative_cosine(p: Float[Tensor, "n d"], target: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Minus the mean cosine similarity; the target gets no gradient.

    SimSiam (Chen & He 2020, arXiv 2011.10566), equations 1 and 3.
    """
    return -F.cosine_similarity(p, target.detach(), dim=1).mean()


def cosine_regression(p: Float[Tensor, "n d"], target: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Mean squared distance between unit vectors, 2 - 2 cos; the target gets no gradient.

    BYOL (Grill et al. 2020, arXiv 2006.07733), equation 2.
    """
    return 2 + 2 * negative_cosine(p, target)
