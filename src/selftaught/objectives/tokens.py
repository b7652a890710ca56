"""Predict which token stands at a place."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from selftaught.precision import float32


@float32
def token_prediction(scores: Float[Tensor, "*n k"], tokens: Int[Tensor, "*n"]) -> Float[Tensor, ""]:
    """Mean negative log-likelihood, in nats, of tokens by the softmax of their places' scores.

    Image GPT (Chen et al. 2020, Generative Pretraining from Pixels), section 2.1, per place.
    """
    return F.cross_entropy(scores.reshape(-1, scores.shape[-1]), tokens.reshape(-1))
