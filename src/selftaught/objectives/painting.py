"""Fill a hole in a picture, and tell filled pictures from real ones."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from selftaught.precision import float32


@float32
def hole_regression(
    painted: Float[Tensor, "n c h w"],
    real: Float[Tensor, "n c h w"],
    weight: Float[Tensor, "n 1 h w"],
) -> Float[Tensor, ""]:
    """Weighted squared error, mean over each picture's pixels of a weight above 0, then over them.

    Context encoders (Pathak et al. 2016, arXiv 1604.07379), equation 1.
    """
    errors = (weight * (painted - real).square()).mean(dim=1).sum(dim=(1, 2))  # (N,)
    return (errors / (weight > 0).sum(dim=(1, 2, 3))).mean()


@float32
def critic_loss(real: Float[Tensor, " n"], painted: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """What the critic minimises: equation 2 of the same paper, of logits, with its sign changed."""
    return F.softplus(-real).mean() + F.softplus(painted).mean()


@float32
def painter_loss(painted: Float[Tensor, " n"]) -> Float[Tensor, ""]:
    """What the painter minimises: the critic's surprise at a picture that is said to be real.

    As in the authors' code, where equation 2 would have it maximise the critic's loss: its gradient
    does not vanish where the critic is sure.
    """
    return F.softplus(-painted).mean()
