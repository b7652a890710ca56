"""Slow float64 references of two-player objectives, from the papers' value functions.

A critic's score s is the logit of D = 1 / (1 + exp(-s)), the probability of being real. By softplus
t(s) = ln(1 + exp(s)) it is ln D = -t(-s) and ln(1 - D) = -t(s).
"""

import math

import numpy as np

Array = np.ndarray


def softplus(x: float) -> float:
    """ln(1 + exp(x)), without overflow."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


def gan_critic(real: Array, fake: Array) -> float:
    """What D minimises: -V(D, G). GAN, arXiv 1406.2661, equation 1; scores (N,) and (M,).

    V = E_x[ln D(x)] + E_z[ln(1 - D(G(z)))].
    """
    sure = sum(-softplus(-s) for s in real) / len(real)
    caught = sum(-softplus(s) for s in fake) / len(fake)
    return -(sure + caught)


def gan_generator(fake: Array) -> float:
    """What G minimises: -E_z[ln D(G(z))]. GAN, section 3: "train G to maximize log D(G(z))"."""
    return -sum(-softplus(-s) for s in fake) / len(fake)


def bigan_critic(real: Array, fake: Array) -> float:
    """-V(D, E, G). BiGAN, arXiv 1605.09782, equation 3; scores of (x, E(x)) and of (G(z), z).

    V = E_x[ln D(x, E(x))] + E_z[ln(1 - D(G(z), z))].
    """
    total = 0.0
    for s in real:
        total += math.log(1 + math.exp(-s)) / len(real)
    for s in fake:
        total += math.log(1 + math.exp(s)) / len(fake)
    return total


def bigan_others(real: Array, fake: Array) -> float:
    """What E and G minimise: -Lambda. BiGAN, section 3.4: V with the labels exchanged.

    Lambda = E_x[ln(1 - D(x, E(x)))] + E_z[ln D(G(z), z)].
    """
    total = 0.0
    for s in real:
        total += math.log(1 + math.exp(s)) / len(real)
    for s in fake:
        total += math.log(1 + math.exp(-s)) / len(fake)
    return total


def js_divergence(p: Array, q: Array) -> float:
    """Jensen-Shannon divergence of two discrete distributions, in nats.

    GAN, section 4.1: against the best D, V is 2 JSD(p, q) - 2 ln 2.
    """
    found = 0.0
    for a, b in zip(p, q, strict=True):
        mean = (a + b) / 2
        found += sum(v * math.log(v / mean) / 2 for v in (a, b) if v > 0)
    return found
