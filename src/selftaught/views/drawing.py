"""What random views share: drawing, pieces of batches, matrix products."""

import torch
from torch import Generator, Tensor

from selftaught.errors import UserError

PIECE = 2**19  # numbers of a batch worked on at a time on a processor: what its cache holds


def uniform(generator: Generator, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Uniform numbers in [low, high) from this generator."""
    return torch.empty(shape, device=generator.device).uniform_(low, high, generator=generator)


def check_range(name: str, bounds: tuple[float, float]) -> None:
    """Raises UserError where the bounds are not positive and in order."""
    if not 0 < bounds[0] <= bounds[1]:
        raise UserError(f"{name} is {bounds}; give two positive numbers, the smaller one first")


def check_probability(p: float) -> None:
    """Raises UserError where p is no probability."""
    if not 0 <= p <= 1:
        raise UserError(f"a probability of {p}; give a number from 0 to 1")


def pieces(x: Tensor) -> list[slice]:
    """Slices of the batch x that suit a processor's cache, or all of it on another device."""
    if x.device.type != "cpu":
        return [slice(None)]
    step = max(1, PIECE // max(1, x[:1].numel()))
    return [slice(start, start + step) for start in range(0, len(x), step)]


def products(left: Tensor, x: Tensor, right: Tensor) -> Tensor:
    """left x right^T, image by image: (n, S, H), (n, C, H, W), (n, T, W) -> (n, C, S, T)."""
    n, channels, height, _ = x.shape
    y = x.flatten(1, 2) @ right.mT  # (n, C H, T)
    return left[:, None] @ y.view(n, channels, height, right.shape[1])
