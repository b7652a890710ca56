"""Fill a hole in a picture."""

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
