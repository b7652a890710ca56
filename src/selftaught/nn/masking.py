"""Choosing which tokens are seen."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from selftaught import dist


def random_split(
    n: int, length: int, ratio: float, device: torch.device
) -> tuple[Int[Tensor, "n k"], Int[Tensor, "n m"]]:
    """Hide ``ratio`` of each sample's tokens at random: the kept and the hidden places.

    Drawn for the global batch, so that several processes hide what one would have hidden.
    """
    noise = dist.mine(torch.rand(n * dist.world_size(), length))
    order = noise.argsort(dim=1).to(device)
    kept = round(length * (1 - ratio))
    return order[:, :kept], order[:, kept:]


def take(tokens: Float[Tensor, "n l d"], index: Int[Tensor, "n k"]) -> Float[Tensor, "n k d"]:
    """The tokens at the given places of each sample."""
    return tokens.gather(1, index.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
