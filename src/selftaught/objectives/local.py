"""Tell parts of an image by other parts of it, or an image by its parts."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from selftaught.precision import float32


@float32
def future_nce(
    p: Float[Tensor, "n r c d"], z: Float[Tensor, "n r c d"], group: int
) -> Float[Tensor, ""]:
    """Cross-entropy of finding each prediction's own patch among those of ``group`` images.

    CPC (van den Oord et al. 2018, arXiv 1807.03748), equations 3 and 4: ``p`` is the context
    through W_k, ``z`` the patches k rows below it, so that p . z is the bilinear score, neither
    normalised nor divided by a temperature. The candidates are all places of z in the images of one
    group, the image's own among them. With no information it is the log of their number.
    """
    p, z = (x.reshape(len(x) // group, -1, x.shape[-1]) for x in (p, z))  # (N/G, G R C, D)
    scores = p @ z.mT  # (N/G, G R C, G R C)
    own = torch.arange(scores.shape[1], device=z.device)
    return F.cross_entropy(scores.flatten(0, 1), own.repeat(len(scores)))


@float32
def across_scales(
    antecedent: Float[Tensor, "n d"],
    maps: Float[Tensor, "m d h w"],
    clip: float,
    first: int = 0,
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """How well antecedents find the places of their own image's map, and the scores' mean square.

    AMDIM (Bachman et al. 2019, arXiv 1906.00910), equations 2, 5 and 6 in the form of the authors'
    costs.py. Antecedent i belongs to map ``first + i``. A score is a dot product over the square
    root of D. Each place of the own map is held against all places of all other maps; the other
    places of the own map are no candidates. For that, scores are softly clipped to ``clip``; their
    mean square is taken before. With no information the first is ln(1 + (M - 1) H W).
    """
    n, d = antecedent.shape
    raw = antecedent @ maps.flatten(2) / math.sqrt(d)  # (M, N, L)
    scores = clip * (raw / clip).tanh()
    place = torch.arange(n, device=raw.device)
    positive = scores[place + first, place]  # (N, L)
    others = scores.index_put((place + first, place), positive.new_tensor(-math.inf))
    rest = others.logsumexp(dim=(0, 2))[:, None]  # (N, 1)
    return (torch.logaddexp(positive, rest) - positive).mean(), raw.square().mean()


@float32
def surrogate_class(scores: Float[Tensor, "n k"], own: Int[Tensor, " n"]) -> Float[Tensor, ""]:
    """Cross-entropy of finding each sample's own surrogate class by its scores.

    Exemplar-CNN (Dosovitskiy et al. 2014, arXiv 1406.6909), equations 1 and 2, as a mean. With no
    information it is ln(K).
    """
    return F.cross_entropy(scores, own)
