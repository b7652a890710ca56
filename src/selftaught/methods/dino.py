"""DINO: say of every view what a slow copy of the network says of the large ones."""

import math
from typing import Any

import torch
from torch import Tensor

from selftaught import dist
from selftaught.errors import above_zero, from_zero_to_one
from selftaught.method import Method, ViewBatch
from selftaught.nn.base import Encoder, encoded
from selftaught.nn.heads import PrototypeHead
from selftaught.nn.memory import EMA, Centre
from selftaught.nn.schedules import cosine, linear
from selftaught.objectives.distillation import centred, view_distillation

LARGE = 2  # views that the teacher sees: the first ones


class DINO(Method):
    """Emerging Properties in Self-Supervised Vision Transformers.

    Caron et al. 2021, https://arxiv.org/abs/2104.14294, algorithm 1 and section 3. The teacher, an
    average of the student, sees the large views; its scores are centred by their running mean and
    sharpened by a temperature that rises in a line. The student matches them in all other views.
    The prototypes are held for the first ``freeze`` of the run, the teacher's momentum rises to one
    along a cosine. The teacher's encoder is what is exported.

    As in the authors' code the encoder's batch norm, where there is any, is over all views of a
    size, the head's over all views; the prototypes' lengths are learned if ``learn_lengths``.
    Deviations: a transformer's feature is the mean of its patch tokens, not a class token, and its
    positions are fixed sines; the temperature rises by step, not by epoch; no stochastic depth.
    Raises UserError for settings out of range.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        hidden: int = 2048,
        bottleneck: int = 256,
        outputs: int = 65536,
        head_norm: bool = False,
        learn_lengths: bool = False,
        momentum: float = 0.996,
        centre_momentum: float = 0.9,
        student_temperature: float = 0.1,
        start_temperature: float = 0.04,
        temperature: float = 0.07,
        temperature_warmup: float = 0.3,
        freeze: float = 0.01,
    ) -> None:
        super().__init__()
        above_zero(student_temperature=student_temperature, temperature=temperature)
        above_zero(start_temperature=start_temperature)
        from_zero_to_one(momentum=momentum, temperature_warmup=temperature_warmup, freeze=freeze)
        self.student = encoder
        more: dict[str, Any] = {"norm": head_norm, "learn_lengths": learn_lengths}
        self.head = PrototypeHead(encoder.dim, hidden, bottleneck, outputs, **more)
        self.teacher = EMA(encoder, self.head)
        self.centre = Centre(outputs, centre_momentum)
        self.momentum, self.freeze = momentum, freeze
        self.student_temperature = student_temperature
        self.temperatures = (start_temperature, temperature, temperature_warmup)

    @property
    def encoder(self) -> Any:  # pyright: ignore
        """The teacher's encoder."""
        return self.teacher.modules_[0]

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``distillation``, the mean over pairs of a large view and another."""
        h = torch.cat(encoded(self.student, batch.views))  # (V * B, D)
        scores = self.head(h, learn=self.progress >= self.freeze)
        scores = scores.unflatten(0, (len(batch.views), -1))  # (V, B, K)
        large = torch.cat(encoded(self.encoder, batch.views[:LARGE])).detach()
        taught = self.teacher.modules_[1](large).detach().unflatten(0, (LARGE, -1))  # (2, B, K)
        self.seen = dist.total(taught.mean((0, 1))) / dist.world_size()  # (K,)
        targets = centred(taught, self.centre.value, linear(self.progress, *self.temperatures))
        loss = view_distillation(scores, targets, self.student_temperature)
        return {"distillation": loss}

    def chance(self, x: Tensor, count: int) -> dict[str, float]:
        """The logarithm of the number of prototypes."""
        return {"distillation": math.log(len(self.centre.value))}

    def after_step(self) -> None:
        """Move the teacher towards the student, and the centre towards the teacher's scores."""
        momentum = cosine(self.progress, self.momentum, 1.0)
        self.teacher.update(self.student, self.head, momentum=momentum)
        self.centre.update(self.seen)
