"""Predict a slow copy's representations of what was hidden."""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from selftaught.precision import float32

Norm = Literal["layer", "instance", "none"]


def standardize(x: Float[Tensor, "n l d"], norm: Norm) -> Float[Tensor, "n l d"]:
    """Each token over its features, each feature over a sample's tokens, or neither."""
    if norm == "layer":
        return F.layer_norm(x, x.shape[-1:])
    if norm == "instance":
        return F.instance_norm(x.transpose(1, 2)).transpose(1, 2)
    return x


@float32
def mean_of_blocks(
    *blocks: Float[Tensor, "n l d"], block_norm: Norm = "layer", final_norm: Norm = "none"
) -> Float[Tensor, "n l d"]:
    """The mean of several blocks' outputs, each normalised, and normalised again.

    data2vec (Baevski et al. 2022, arXiv 2202.03555), section 3.3; without weights. As in the
    authors' code the second norm is for images.
    """
    total = torch.zeros_like(blocks[0])
    for block in blocks:
        total += standardize(block, block_norm)
    return standardize(total / len(blocks), final_norm)


@float32
def masked_regression(
    prediction: Float[Tensor, "n l d"],
    target: Float[Tensor, "n l d"],
    hidden: Bool[Tensor, "n l"],
    beta: float,
) -> Float[Tensor, ""]:
    """Smooth L1 distance at hidden places, quadratic up to ``beta``; with 0 the squared distance.

    data2vec (Baevski et al. 2022, arXiv 2202.03555), equation 2; data2vec 2.0 (arXiv 2212.07525)
    takes the square. The mean over features and over all hidden places of the batch alike. The
    target gets no gradient.
    """
    target = target.detach()
    if beta:
        distance = F.smooth_l1_loss(prediction, target, beta=beta, reduction="none")
    else:
        distance = (prediction - target).square()
    each = torch.where(hidden, distance.mean(dim=-1), 0)  # (N, L)
    return each.sum() / hidden.sum()


@float32
def block_regression(
    prediction: Float[Tensor, "n l d"], target: Float[Tensor, "n l d"]
) -> Float[Tensor, ""]:
    """Smooth L1 distance from each token of the target, normalised over its features.

    I-JEPA (Assran et al. 2023, arXiv 2301.08243), section 3, with the distance and the norm of the
    authors' code, where the paper has the square. The target gets no gradient.
    """
    return F.smooth_l1_loss(prediction, standardize(target.detach(), "layer"))
