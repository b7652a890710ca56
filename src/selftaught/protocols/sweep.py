"""Many linear heads at once, trained by gradient descent on features of random views."""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from selftaught.protocols.convex import moments

#: Learning rates, for features of mean 0 and deviation 1.
RATES = tuple(digit * 10.0**power for power in (-4, -3, -2, -1) for digit in (1, 3))
MOMENTUM = 0.9

Pooled = Mapping[str, Tensor]  # (B, D) of each pooling


class SweepResult(NamedTuple):
    """What the sweep found."""

    predictions: Tensor  # (M,) int64, on the CPU
    head: tuple[str, float]  #: the pooling and the learning rate that were chosen
    held_out: dict[tuple[str, float], float]  #: accuracy on the held-out samples, by head


class Heads:
    """One linear head for each pooling and learning rate; those of a pooling are one matrix.

    ``sample`` are features of some training samples, whose mean and deviation are taken out of all
    features, so that a learning rate means the same for all encoders.
    """

    def __init__(self, sample: Pooled, classes: int, rates: tuple[float, ...] = RATES) -> None:
        self.classes, self.rates = classes, rates
        self.moments = {name: moments(x.double()) for name, x in sample.items()}
        self.weight, self.bias, self.speed = {}, {}, {}
        for name, x in sample.items():
            self.weight[name] = x.new_zeros(len(rates) * classes, x.shape[1])
            self.bias[name] = x.new_zeros(len(rates) * classes)
            self.speed[name] = (self.weight[name].clone(), self.bias[name].clone())

    def scores(self, x: Pooled) -> dict[str, Tensor]:
        """(B, rates, classes) of each pooling."""
        return {name: self._scores(name, self._standard(name, z)) for name, z in x.items()}

    def step(self, x: Pooled, y: Tensor, progress: float) -> None:
        """One step of every head on its own mean cross-entropy, by SGD with momentum.

        The learning rates follow a cosine to 0 over ``progress``.
        """
        cosine = (1 + math.cos(math.pi * progress)) / 2
        rates = torch.tensor(self.rates, device=y.device).repeat_interleave(self.classes) * cosine
        target = F.one_hot(y, self.classes)[:, None]
        for name, z in x.items():
            z = self._standard(name, z)
            error = ((self._scores(name, z).softmax(2) - target) / len(y)).flatten(1)
            slopes = error.T @ z, error.sum(0)
            for speed, slope in zip(self.speed[name], slopes, strict=True):
                speed.mul_(MOMENTUM).add_(slope)
            self.weight[name] -= rates[:, None] * self.speed[name][0]
            self.bias[name] -= rates * self.speed[name][1]

    def _standard(self, name: str, x: Tensor) -> Tensor:
        mean, scale = self.moments[name]
        return (x - mean.to(x)) / scale.to(x)

    def _scores(self, name: str, x: Tensor) -> Tensor:
        found = torch.addmm(self.bias[name], x, self.weight[name].T)
        return found.unflatten(1, (len(self.rates), self.classes))


@torch.no_grad()
def linear_sgd(
    sample: Pooled,
    train: Iterable[tuple[Pooled, Tensor]],
    held: Iterable[tuple[Pooled, Tensor]],
    test: Iterable[Pooled],
    *,
    steps: int,
    classes: int,
    rates: tuple[float, ...] = RATES,
) -> SweepResult:
    """Train a linear head for each pooling and learning rate, and predict by the best of them.

    As MoCo (He et al. 2019, https://arxiv.org/abs/1911.05722, section 4.1) and DINO evaluate, with
    the many heads of DINOv2 (Oquab et al. 2023, https://arxiv.org/abs/2304.07193, section 7.1):
    frozen features of random views, which are the caller's, SGD with momentum 0.9, a cosine
    schedule, no weight decay. Deviations: features are standardised, as `Heads` says. The
    head with the best accuracy on ``held`` predicts; of equals, the first pooling and the smallest
    rate. All of a step's heads see the same features, and nothing is kept of a batch.

    ``sample`` and the batches are features (B, D) by the pooling's name, ``train`` gives ``steps``
    of them with labels (B,) in [0, classes), ``held`` and ``test`` those of plain images.
    """
    heads = Heads(sample, classes, rates)
    for step, (x, y) in enumerate(train):
        heads.step(x, y, step / steps)
    hits = {name: torch.zeros(len(rates), dtype=torch.float64) for name in sample}
    count = 0
    for x, y in held:
        count += len(y)
        for name, scores in heads.scores(x).items():
            hits[name] += (scores.argmax(2) == y[:, None]).sum(0).cpu()
    held_out = {
        (name, rate): float(found) / count
        for name, of in hits.items()
        for rate, found in zip(rates, of, strict=True)
    }
    best = max(held_out, key=lambda head: held_out[head])  # the first of equals
    place = rates.index(best[1])
    chosen = [heads.scores({best[0]: x[best[0]]})[best[0]][:, place].argmax(1).cpu() for x in test]
    return SweepResult(torch.cat(chosen), best, held_out)
