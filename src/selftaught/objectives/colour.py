"""Tell the colours of places."""

from jaxtyping import Float, Int
from torch import Tensor

from selftaught.precision import float32


@float32
def colour_prediction(
    scores: Float[Tensor, "n q h w"],
    bins: Int[Tensor, "n k h w"],
    shares: Float[Tensor, "n k h w"],
    weight: Float[Tensor, "n h w"],
) -> Float[Tensor, ""]:
    """Cross-entropy of each place with its few bins' shares, times its weight, mean over places.

    Colorization (Zhang et al. 2016, arXiv 1603.08511), equation 2, of which the paper takes the sum
    over places. Not divided by the weights of the batch, whose expectation would be another.
    """
    logs = scores.log_softmax(dim=1).gather(1, bins)  # (N, K, H, W)
    return -(weight * (shares * logs).sum(dim=1)).mean()
