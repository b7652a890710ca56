"""Slow float64 references of optimisers and schedules: one parameter tensor, one step."""

import math

import numpy as np

Array = np.ndarray | float


def double(x: Array) -> np.ndarray:
    """The array or number `x` in float64."""
    return np.asarray(x, dtype=np.float64)


def lars_step(
    weight: Array,
    gradient: Array,
    velocity: Array,
    *,
    learning_rate: float,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    eta: float = 0.001,
    excluded: bool = False,
    classic_momentum: bool = False,
) -> tuple[Array, Array]:
    """The weight and the velocity after one step of LARS.

    You et al., arXiv 1708.03888, Algorithm 1, as the official code of SimCLR and BYOL has it:
    g = gradient + weight_decay * weight, scaled by the trust ratio eta ||weight|| / ||g||, which is
    1 where either norm is 0, and applies with no weight decay too. (The paper divides by
    ||gradient|| + weight_decay ||weight|| instead, which is at least ||g||.)
    `excluded` is for biases and batch norm: neither decay nor ratio, plain momentum.

    The two codes differ in the place of the learning rate, which shows only while it changes:
    - BYOL (the default here): velocity = momentum * velocity + ratio * g, and
      weight -= learning_rate * velocity;
    - SimCLR and the paper (`classic_momentum`): velocity = momentum * velocity +
      learning_rate * ratio * g, and weight -= velocity.
    """
    weight, gradient, velocity = double(weight), double(gradient), double(velocity)
    ratio = 1.0
    if not excluded:
        gradient = gradient + weight_decay * weight
        weight_norm = math.sqrt(np.sum(weight**2))
        gradient_norm = math.sqrt(np.sum(gradient**2))
        if weight_norm > 0 and gradient_norm > 0:
            ratio = eta * weight_norm / gradient_norm
    if classic_momentum:
        velocity = momentum * velocity + learning_rate * ratio * gradient
        return weight - velocity, velocity
    velocity = momentum * velocity + ratio * gradient
    return weight - learning_rate * velocity, velocity


def larc_step(
    weight: Array,
    gradient: Array,
    velocity: Array,
    *,
    learning_rate: float,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    trust: float = 0.001,
    eps: float = 1e-8,
) -> tuple[Array, Array]:
    """The weight and the velocity after one step of apex's LARC without clipping, around SGD.

    Where neither norm is 0, the decayed gradient is multiplied by
    trust ||weight|| / (||gradient|| + weight_decay ||weight|| + eps); else the gradient stays as it
    is. Then SGD: velocity = momentum * velocity + gradient, weight -= learning_rate * velocity.
    """
    weight, gradient, velocity = double(weight), double(gradient), double(velocity)
    weight_norm = math.sqrt(np.sum(weight**2))
    gradient_norm = math.sqrt(np.sum(gradient**2))
    if weight_norm != 0 and gradient_norm != 0:
        rate = trust * weight_norm / (gradient_norm + weight_norm * weight_decay + eps)
        gradient = (gradient + weight_decay * weight) * rate
    velocity = momentum * velocity + gradient
    return weight - learning_rate * velocity, velocity


def warmup_cosine(step: int, total: int, warmup: int, base: float) -> float:
    """The learning rate at `step`, counted from 0: linear from 0 to `base`, then cosine to 0.

    SimCLR, arXiv 2002.05709, section 2.2, as in its official code: base * step / warmup, so the
    very first step has rate 0; `base` at step `warmup`; 0 at step `total` and after.
    """
    if step < warmup:
        return base * step / warmup
    progress = (min(step, total) - warmup) / (total - warmup)
    return base * (1 + math.cos(math.pi * progress)) / 2


def adamw_step(
    weight: Array,
    gradient: Array,
    first: Array,
    second: Array,
    step: int,
    *,
    learning_rate: float,
    betas: tuple[float, float] = (0.9, 0.999),
    epsilon: float = 1e-8,
    weight_decay: float = 0.01,
) -> tuple[Array, Array, Array]:
    """The weight and both moments after step number `step`, counted from 1.

    Loshchilov & Hutter, arXiv 1711.05101, Algorithm 2. The decay is multiplied by the learning
    rate, as in common code; in the paper it is multiplied by the schedule's factor alone.
    """
    weight, gradient = double(weight), double(gradient)
    first, second = double(first), double(second)
    first = betas[0] * first + (1 - betas[0]) * gradient
    second = betas[1] * second + (1 - betas[1]) * gradient**2
    first_unbiased = first / (1 - betas[0] ** step)
    second_unbiased = second / (1 - betas[1] ** step)
    direction = first_unbiased / (np.sqrt(second_unbiased) + epsilon)
    return weight - learning_rate * (direction + weight_decay * weight), first, second
