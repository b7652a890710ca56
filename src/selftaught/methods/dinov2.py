"""DINOv2: iBOT with two heads, balanced targets, and features that keep their distance."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from selftaught import dist
from selftaught.errors import UserError, above_zero, from_zero_to_one
from selftaught.method import Method, ViewBatch
from selftaught.nn.base import Encoder
from selftaught.nn.heads import PrototypeHead
from selftaught.nn.masking import OneOfTwo, one_of_two
from selftaught.nn.memory import EMA
from selftaught.nn.schedules import cosine, linear
from selftaught.nn.transformer import ViT, seen_in_part, with_tokens
from selftaught.objectives.clusters import sinkhorn
from selftaught.objectives.distillation import koleo, patch_distillation, view_distillation

LARGE = 2  # views that the teacher sees, and that patches are hidden of: the first ones


class DINOv2(Method):
    """DINOv2: Learning Robust Visual Features without Supervision.

    Oquab et al. 2023, https://arxiv.org/abs/2304.07193, section 4. Views are distilled as in DINO,
    hidden patches as in iBOT, each with its own head; Sinkhorn-Knopp over the global batch replaces
    centring; KoLeo spreads the student's features of each large view. The teacher is exported.

    Deviations from the authors' code: an image's feature is the mean of its patch tokens, not a
    class token, and positions are fixed sines; patches are hidden as `one_of_two` says; KoLeo looks
    for neighbours in the global batch, not in a device's; without small views their views' term is
    two thirds of this one; both heads have one width. Left out: stochastic depth, layer scale,
    SwiGLU, register tokens, learning rates by layer, the high-resolution end of the run, the
    curated data. Raises UserError for an encoder without tokens and settings out of range.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        hidden: int = 2048,
        bottleneck: int = 256,
        outputs: int = 131072,
        head_norm: bool = False,
        ratio: float = 0.3,
        momentum: float = 0.994,
        student_temperature: float = 0.1,
        start_temperature: float = 0.04,
        temperature: float = 0.07,
        temperature_warmup: float = 0.06,
        iterations: int = 3,
        koleo_weight: float = 0.1,
        freeze: float = 0.002,
    ) -> None:
        super().__init__()
        encoder = with_tokens(encoder, "dinov2")
        above_zero(student_temperature=student_temperature, temperature=temperature)
        above_zero(start_temperature=start_temperature)
        from_zero_to_one(ratio=ratio, momentum=momentum, freeze=freeze)
        from_zero_to_one(temperature_warmup=temperature_warmup)
        if iterations < 1:
            raise UserError(f"{iterations} iterations; use --iterations from 1")
        widths = (encoder.dim, hidden, bottleneck, outputs)
        self.student: ViT = encoder
        self.blank = nn.Parameter(torch.randn(encoder.dim) * 0.02)
        self.head = PrototypeHead(*widths, norm=head_norm, learn_lengths=True)
        self.patch_head = PrototypeHead(*widths, norm=head_norm, learn_lengths=True)
        self.teacher = EMA(encoder, self.head, self.patch_head)
        self.ratio, self.momentum, self.freeze = ratio, momentum, freeze
        self.student_temperature, self.iterations = student_temperature, iterations
        self.temperatures = (start_temperature, temperature, temperature_warmup)
        self.koleo_weight = koleo_weight

    @property
    def encoder(self) -> Any:  # pyright: ignore
        """The teacher's encoder."""
        return self.teacher.modules_[0]

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``distillation`` of views, ``patches`` of hidden ones as in iBOT, and ``koleo``."""
        large = torch.cat(batch.views[:LARGE])
        with torch.no_grad():
            taught = self.encoder.tokens(large)  # (2B, L, D)
        blanked = one_of_two(len(large) // 2, taught.shape[1], self.ratio, large.device, smallest=4)
        h, blanks = seen_in_part(self.student, batch.views, blanked, self.blank)
        learn = self.progress >= self.freeze
        scores = self.head(h, learn=learn).unflatten(0, (len(batch.views), -1))  # (V, B, K)
        hidden = self.patch_head(blanks, learn=learn)
        views, patches = self._targets(taught, blanked)  # (2, B, K), (B, M, K)
        near = [koleo(dist.gather(x)) for x in h[: len(large)].chunk(LARGE)]
        return {
            "distillation": view_distillation(scores, views, self.student_temperature),
            "patches": patch_distillation(hidden, patches, self.student_temperature) / LARGE,
            "koleo": self.koleo_weight * torch.stack(near).sum(),
        }

    @torch.no_grad()
    def _targets(self, tokens: Tensor, blanked: OneOfTwo) -> tuple[Tensor, Tensor]:
        """What the teacher says of large views, and of hidden patches."""
        _, head, patch_head = self.teacher.modules_
        views = self._balanced(head(tokens.mean(dim=1)))
        patches = patch_head(blanked.of(tokens))  # (B, M, K)
        balanced = self._balanced(patches.flatten(0, 1)).view_as(patches)
        return views.unflatten(0, (LARGE, -1)), balanced

    def _balanced(self, scores: Tensor) -> Tensor:
        """Targets of these rows, over those of all processes."""
        temperature = linear(self.progress, *self.temperatures)
        return dist.mine(sinkhorn(dist.gather(scores), temperature, self.iterations))

    def chance(self, x: Tensor, count: int) -> dict[str, float]:
        """The logarithm of the number of prototypes; what is hidden its place tells in part."""
        return {"distillation": math.log(len(self.head.weight))}

    def after_step(self) -> None:
        """Move the teacher towards the student."""
        momentum = cosine(self.progress, self.momentum, 1.0)
        self.teacher.update(self.student, self.head, self.patch_head, momentum=momentum)
