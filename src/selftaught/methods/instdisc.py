"""InstDisc: each image is a class of its own, known by what it looked like last time."""

import math

import torch
from torch import Tensor

from selftaught import dist
from selftaught.errors import UserError, above_zero, from_zero_to_one
from selftaught.method import Method, ViewBatch
from selftaught.nn.base import Encoder
from selftaught.nn.heads import mlp
from selftaught.nn.memory import Bank, NoiseConstant
from selftaught.objectives.noise import (
    instance_softmax,
    log_partition,
    noise_contrast,
    similarities,
)
from selftaught.objectives.regression import cosine_regression


class InstDisc(Method):
    """Unsupervised Feature Learning via Non-Parametric Instance Discrimination.

    Wu et al. 2018, https://arxiv.org/abs/1805.01978, equations 2 to 10. A bank holds one unit
    vector for each of the ``count`` images. An image's feature finds its own entry among ``noise``
    others by noise-contrastive estimation, its constant Z estimated from the first batch; or, where
    ``noise`` is 0, among all of them by the exact softmax. The proximal term draws the feature to
    the entry, which is that of its last visit, or random before the first.

    The paper replaces an entry by the feature (a ``momentum`` of 0); the authors' code moves it
    half of the way, as here where nothing else is asked for, and has no proximal term: to them the
    one stands in for the other. As in the paper, Z is estimated from the noise alone. Raises
    UserError for settings outside their range.
    """

    knows_samples = True

    def __init__(
        self,
        encoder: Encoder,
        *,
        count: int,
        dim: int = 128,
        temperature: float = 0.07,
        noise: int = 4096,
        momentum: float = 0.5,
        proximal: float = 30.0,
    ) -> None:
        super().__init__()
        above_zero(temperature=temperature)
        from_zero_to_one(momentum=momentum)
        if noise < 0 or proximal < 0:
            raise UserError(
                f"{noise} noise samples, a proximal weight of {proximal}; use --noise and "
                "--proximal with 0 or more"
            )
        self.encoder = encoder
        self.projector = mlp(encoder.dim, dim)
        self.bank = Bank(count, dim)
        self.constant = NoiseConstant()
        self.count = count
        self.temperature = temperature
        self.noise = noise
        self.momentum = momentum
        self.proximal = proximal
        self.tells_apart = () if noise else ("softmax",)

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``nce`` or ``softmax``, and ``proximal`` with its weight."""
        (x,) = batch.views
        z = self.projector(self.encoder(x))
        index = batch.index.to(z.device)
        self.seen = dist.gather(index), dist.gather(z.detach())
        if self.noise:
            terms = {"nce": self._contrast(z, index)}
        else:
            terms = {"softmax": instance_softmax(z, self.bank.rows, index, self.temperature)}
        last = self.bank.rows[index]
        return terms | {"proximal": self.proximal * cosine_regression(z, last)}

    def _contrast(self, z: Tensor, index: Tensor) -> Tensor:
        drawn = torch.randint(self.count, (len(z) * dist.world_size(), self.noise))
        drawn = dist.mine(drawn).to(z.device)
        chosen = torch.cat([index[:, None], drawn], dim=1)  # (B, 1 + M)
        scores = similarities(z, self.bank.rows, chosen, self.temperature)
        own, noise = scores[:, 0], scores[:, 1:]
        constant = self.constant.settled(log_partition(noise, self.count))
        return noise_contrast(own, noise, constant, self.count)

    def chance(self, x: Tensor, count: int) -> dict[str, float]:
        """The logarithm of the number of entries, for the exact softmax.

        Nothing for noise: with Z from the first batch the term of features that have learnt, whose
        neighbours are near, may be above that of a guess.
        """
        return {} if self.noise else {"softmax": math.log(self.count)}

    def after_step(self) -> None:
        """Keep the constant, and move the batch's entries."""
        if self.noise:
            self.constant.keep()
        self.bank.update(*self.seen, momentum=self.momentum)
