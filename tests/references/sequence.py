"""Slow float64 references of methods that predict a sequence, from the papers."""

import math

import numpy as np

Array = np.ndarray


def token_loss(scores: Array, tokens: Array) -> float:
    """The mean of -log p(token), p the softmax of its scores (N, K); `tokens` is (N,).

    Image GPT (Chen et al. 2020), section 2.1: E[-log p(x)] with p(x) the product over places. Here
    the mean over places, in nats.
    """
    total = 0.0
    for row, token in zip(scores, tokens, strict=True):
        largest = max(row)
        partition = sum(math.exp(s - largest) for s in row)
        total -= (row[token] - largest) - math.log(partition)
    return total / len(tokens)


def quantised(pixels: Array, palette: Array) -> Array:
    """For each pixel (N, C) the nearest colour of the palette (K, C), in Euclidean distance."""
    return np.array([np.argmin([np.sum((p - c) ** 2) for c in palette]) for p in pixels])
