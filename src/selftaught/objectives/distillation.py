"""Agree with a teacher on which prototypes a view, or a patch of it, is like."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from selftaught.objectives.clusters import swapped_prediction
from selftaught.precision import float32


@torch.no_grad()
@float32
def centred(
    scores: Float[Tensor, "*n k"], centre: Float[Tensor, " k"], temperature: float
) -> Float[Tensor, "*n k"]:
    """Targets: the teacher's scores less their running mean, sharpened by a low temperature.

    DINO (Caron et al. 2021, arXiv 2104.14294), algorithm 1. The centre keeps one prototype from
    winning always, the temperature keeps all from being equal.
    """
    return ((scores - centre) / temperature).softmax(dim=-1)


@float32
def view_distillation(
    scores: Float[Tensor, "v n k"], targets: Float[Tensor, "t n k"], temperature: float
) -> Float[Tensor, ""]:
    """Cross-entropy of the student's scores of each view with the targets of each other view.

    DINO (Caron et al. 2021, arXiv 2104.14294), equation 3, its mean over pairs of views as in the
    authors' code. The T views with a target come first; targets get no gradient. With no
    information it is ln(K).
    """
    logs = (scores / temperature).log_softmax(dim=-1)
    pairs = torch.einsum("tnk,vnk->tv", targets.detach(), logs) / scores.shape[1]  # (T, V)
    others = pairs.numel() - len(pairs)
    return (pairs.diagonal().sum() - pairs.sum()) / others


def patch_distillation(
    scores: Float[Tensor, "n m k"], targets: Float[Tensor, "n m k"], temperature: float
) -> Float[Tensor, ""]:
    """Cross-entropy of the student's scores of hidden patches with the teacher's targets there.

    iBOT (Zhou et al. 2021, arXiv 2111.07832), equation 2, its mean over hidden patches as in the
    authors' code. Targets get no gradient. With no information it is ln(K).
    """
    return swapped_prediction(scores.flatten(0, 1), targets.flatten(0, 1), temperature)


@float32
def koleo(h: Float[Tensor, "n d"]) -> Float[Tensor, ""]:
    """Minus the mean logarithm of the distance to the nearest other row, rows at length one.

    DINOv2 (Oquab et al. 2023, arXiv 2304.07193), section 4, "KoLeo regularizer", with the two 1e-8
    of the authors' code.
    """
    z = F.normalize(h, dim=1)
    nearest = (z @ z.T).detach().fill_diagonal_(float("-inf")).argmax(dim=1)  # (N,)
    return -(F.pairwise_distance(z, z[nearest], eps=1e-8) + 1e-8).log().mean()


@float32
def soft_cross_entropy(
    scores: Float[Tensor, "n k"], target: Float[Tensor, "n k"], temperature: float
) -> Float[Tensor, ""]:
    """Mean cross-entropy of two distributions, both at a temperature; the target gets no gradient.

    SimCLR v2 (Chen et al. 2020, arXiv 2006.10029), equation 2. Not scaled by the temperature's
    square, as Hinton et al. (2015) scale it.
    """
    p = (target.detach() / temperature).softmax(dim=1)
    return -(p * (scores / temperature).log_softmax(dim=1)).sum(dim=1).mean()
