"""Predict which token stands at a place."""

import torch
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


@torch.no_grad()
def unigram_entropy(tokens: Int[Tensor, "*n"]) -> float:
    """Entropy, in nats, of how often each token comes: what `token_prediction` is by counts alone.

    Of few tokens it is too low, by about (kinds - 1) / (2 tokens).
    """
    _, counts = tokens.unique(return_counts=True)
    return torch.special.entr(counts.double() / counts.sum()).sum().item()
