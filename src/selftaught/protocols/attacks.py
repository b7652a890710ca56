"""Adversarial examples: the largest error within a small change of each pixel."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

STEPS = 20
REACH = 2.5  # how far the steps of PGD go together, in epsilons

Network = Callable[[Tensor], Tensor]  # images in [0, 1] to scores


def slope(network: Network, x: Tensor, y: Tensor) -> Tensor:
    """The gradient of each image's cross-entropy by its pixels, of the shape of x (B, C, S, S).

    Zero where a network cuts it, as one does that begins with the nearest colour of a palette.
    """
    with torch.enable_grad():
        x = x.detach().clone().requires_grad_()
        loss = F.cross_entropy(network(x), y, reduction="sum")
        if not loss.requires_grad:
            return torch.zeros_like(x)
        return torch.autograd.grad(loss, x, materialize_grads=True)[0]


def fgsm(network: Network, x: Tensor, y: Tensor, epsilon: float) -> Tensor:
    """One step of epsilon along the sign of the gradient, in [0, 1].

    Goodfellow et al. 2014, https://arxiv.org/abs/1412.6572, section 4; y (B,) are the true classes.
    """
    return (x + epsilon * slope(network, x, y).sign()).clamp(0, 1)


def pgd(
    network: Network,
    x: Tensor,
    y: Tensor,
    epsilon: float,
    generator: torch.Generator,
    *,
    steps: int = STEPS,
    alpha: float | None = None,
) -> Tensor:
    """Steps of ``alpha`` along the sign from a random start, projected to the ball and to [0, 1].

    Madry et al. 2017, https://arxiv.org/abs/1706.06083, section 2.1, in the L-infinity norm; the
    start is uniform in the ball, and ``alpha`` 2.5 epsilon / steps unless it is given.
    """
    alpha = REACH * epsilon / steps if alpha is None else alpha
    low, high = (x - epsilon).clamp(min=0), (x + epsilon).clamp(max=1)
    noise = torch.rand(x.shape, generator=generator).to(x)
    found = (x + epsilon * (2 * noise - 1)).clamp(low, high)
    for _ in range(steps):
        found = (found + alpha * slope(network, found, y).sign()).clamp(low, high)
    return found
