"""iBOT: DINO, and say of hidden patches what a slow copy of the network says that sees them."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from selftaught import dist
from selftaught.errors import above_zero, from_zero_to_one
from selftaught.method import Method, ViewBatch
from selftaught.nn.base import Encoder
from selftaught.nn.heads import PrototypeHead
from selftaught.nn.masking import OneOfTwo, one_of_two
from selftaught.nn.memory import EMA, Centre
from selftaught.nn.schedules import cosine, linear
from selftaught.nn.transformer import ViT, seen_in_part, with_tokens
from selftaught.objectives.distillation import centred, patch_distillation, view_distillation

LARGE = 2  # views that the teacher sees, and that patches are hidden of: the first ones


class IBOT(Method):
    """Image BERT Pre-Training with Online Tokenizer.

    Zhou et al. 2021, https://arxiv.org/abs/2111.07832, equations 1 to 3, algorithm 1. Views are
    distilled as in DINO; besides, blocks of patches are hidden from the student in large views, and
    it matches there the patch tokens of the teacher, which sees all. One head serves both if
    ``shared``; patches have their own centre and temperature. The teacher is what is exported.

    Deviations from the authors' code: a feature is the mean of patch tokens, without a class token;
    positions are fixed sines; patches are hidden as `one_of_two` says; two heads share no layer; a
    head's batch norm sees views and hidden patches apart; no stochastic depth. Raises UserError for
    an encoder without tokens and settings out of range.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        hidden: int = 2048,
        bottleneck: int = 256,
        outputs: int = 8192,
        head_norm: bool = False,
        shared: bool = True,
        ratio: float = 0.3,
        momentum: float = 0.996,
        centre_momentum: float = 0.9,
        student_temperature: float = 0.1,
        start_temperature: float = 0.04,
        temperature: float = 0.07,
        patch_temperature: float = 0.07,
        temperature_warmup: float = 0.0375,
        freeze: float = 0.00125,
    ) -> None:
        super().__init__()
        encoder = with_tokens(encoder, "ibot")
        above_zero(student_temperature=student_temperature, temperature=temperature)
        above_zero(start_temperature=start_temperature, patch_temperature=patch_temperature)
        from_zero_to_one(ratio=ratio, momentum=momentum, freeze=freeze)
        from_zero_to_one(temperature_warmup=temperature_warmup)
        widths = (encoder.dim, hidden, bottleneck, outputs)
        more: dict[str, Any] = {"norm": head_norm, "learn_lengths": True}
        heads = [PrototypeHead(*widths, **more) for _ in range(1 if shared else 2)]
        self.student: ViT = encoder
        self.blank = nn.Parameter(torch.randn(encoder.dim) * 0.02)
        self.heads = nn.ModuleList(heads)  # the first is for views, the last for patches
        self.teacher = EMA(encoder, *heads)
        self.centre, self.patch_centre = (Centre(outputs, centre_momentum) for _ in range(2))
        self.ratio, self.momentum, self.freeze = ratio, momentum, freeze
        self.student_temperature = student_temperature
        self.temperatures = (start_temperature, temperature, temperature_warmup)
        self.patch_temperatures = (start_temperature, patch_temperature, temperature_warmup)

    @property
    def encoder(self) -> Any:  # pyright: ignore
        """The teacher's encoder."""
        return self.teacher.modules_[0]

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``distillation`` of views, ``patches`` of hidden ones; a whole view counts as 0 there."""
        large = torch.cat(batch.views[:LARGE])
        with torch.no_grad():
            taught = self.encoder.tokens(large)  # (2B, L, D)
        blanked = one_of_two(len(batch.index), taught.shape[1], self.ratio, large.device)
        h, blanks = seen_in_part(self.student, batch.views, blanked, self.blank)
        learn = self.progress >= self.freeze
        scores = self.heads[0](h, learn=learn).unflatten(0, (len(batch.views), -1))  # (V, B, K)
        hidden = self.heads[-1](blanks, learn=learn)
        views, patches = self._targets(taught, blanked)  # (2, B, K), (B, M, K)
        return {
            "distillation": view_distillation(scores, views, self.student_temperature),
            "patches": patch_distillation(hidden, patches, self.student_temperature) / LARGE,
        }

    @torch.no_grad()
    def _targets(self, tokens: Tensor, blanked: OneOfTwo) -> tuple[Tensor, Tensor]:
        """What the teacher says of large views, and of hidden patches."""
        modules: Any = self.teacher.modules_
        head, patch_head = modules[1], modules[-1]
        views = head(tokens.mean(dim=1)).unflatten(0, (LARGE, -1))
        z = patch_head.embed(tokens)  # (2B, L, E)
        patches = patch_head.compare(blanked.of(z))
        means = (views.mean((0, 1)), patch_head.compare(z.mean((0, 1))))  # scores are linear in z
        self.seen = [dist.total(mean) / dist.world_size() for mean in means]
        sharp = linear(self.progress, *self.temperatures)
        patch_sharp = linear(self.progress, *self.patch_temperatures)
        views = centred(views, self.centre.value, sharp)
        return views, centred(patches, self.patch_centre.value, patch_sharp)

    def chance(self, x: Tensor, count: int) -> dict[str, float]:
        """The logarithm of the number of prototypes; what is hidden its place tells in part."""
        return {"distillation": math.log(len(self.centre.value))}

    def after_step(self) -> None:
        """Move the teacher towards the student, and the centres towards the teacher's scores."""
        momentum = cosine(self.progress, self.momentum, 1.0)
        self.teacher.update(self.student, *self.heads, momentum=momentum)
        self.centre.update(self.seen[0])
        self.patch_centre.update(self.seen[1])
