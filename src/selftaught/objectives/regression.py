"""Predict another view's representation."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from selftaught.precision import float32


@float32
def cosine_regression(p: Float[Tensor, "n d"], target: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Mean squared distance between unit vectors, 2 - 2 cos; the target gets no gradient.

    BYOL (Grill et al. 2020, arXiv 2006.07733), equation 2.
    """
    return 2 - 2 * F.cosine_similarity(p, target.detach(), dim=1).mean()
