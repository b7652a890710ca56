"""I-JEPA: see a part, predict a slow copy's tokens of several blocks elsewhere."""

from typing import Any

import torch
from torch import Tensor, nn

from selftaught.errors import UserError, from_zero_to_one
from selftaught.method import Method, ViewBatch
from selftaught.nn.base import Encoder
from selftaught.nn.masking import MultiBlock, take
from selftaught.nn.memory import EMA
from selftaught.nn.schedules import linear
from selftaught.nn.transformer import ViT, initialize, sine_position, transformer, with_tokens
from selftaught.objectives.latent import block_regression


class IJEPA(Method):
    """Self-Supervised Learning from Images with a Joint-Embedding Predictive Architecture.

    Assran et al. 2023, https://arxiv.org/abs/2301.08243, section 3 and appendix A. The encoder sees
    the patches of a context only. From its tokens and one learned token at each place of a target
    block, a narrow predictor tells the teacher's tokens there, block by block; the teacher sees
    the whole image. The teacher is an average of the encoder whose momentum rises to one in a line,
    and it is what is exported, as the authors evaluate it. Positions are fixed sines and cosines.

    As in the authors' code the teacher's tokens are normalised, the distance is smooth L1, and the
    weights of all linear layers begin alike at every depth: what their networks shrink by depth is
    drawn again before the first step.

    Deviations: those of `MultiBlock`, and that a patch embedding begins as PyTorch has it, whose
    size does not depend on the patch's, where theirs is too small for patches of few pixels.

    Raises UserError for an encoder without tokens, for too few patches, and for a predictor or a
    momentum that cannot be.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        dim: int = 384,
        depth: int = 12,
        heads: int = 12,
        targets: int = 4,
        scale: tuple[float, float] = (0.15, 0.2),
        aspect: tuple[float, float] = (0.75, 1.5),
        context: tuple[float, float] = (0.85, 1.0),
        least: int = 10,
        momentum: float = 0.996,
    ) -> None:
        super().__init__()
        encoder = with_tokens(encoder, "ijepa")
        if dim % heads or dim % 4:
            raise UserError(
                f"a predictor of {dim} channels and {heads} heads; make {heads} divide it"
            )
        from_zero_to_one(momentum=momentum)
        self.blocks = MultiBlock(encoder.grid, targets, scale, aspect, context, least)
        self.student: ViT = encoder
        self.narrow = nn.Linear(encoder.dim, dim)
        self.blank = nn.Parameter(torch.randn(dim) * 0.02)
        self.position = nn.Buffer(sine_position(dim, encoder.grid)[None])  # (1, L, P)
        self.predictor = transformer(dim, depth, heads, encoder.length)
        self.widen = nn.Linear(dim, encoder.dim)
        initialize(self)
        self.teacher = EMA(encoder)
        self.momentum = momentum

    @property
    def encoder(self) -> Any:  # pyright: ignore
        """The teacher's encoder."""
        return self.teacher.modules_[0]

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``prediction`` of the teacher's tokens in all target blocks."""
        (x,) = batch.views
        n = len(x)
        context, targets = (places.to(x.device) for places in self.blocks(n))  # (B, K), (B, M, T)
        with torch.no_grad():
            whole = self.encoder.tokens(x)  # (B, L, D)
        position = self.position.expand(n, -1, -1)
        seen = self.narrow(self.student.tokens(x, context)) + take(position, context)  # (B, K, P)
        asked, told = [], []
        for block in targets.unbind(1):  # (B, T)
            asked.append(torch.cat([seen, self.blank + take(position, block)], dim=1))
            told.append(take(whole, block))
        p = self.widen(self.predictor(torch.cat(asked))[:, context.shape[1] :])  # (M * B, T, D)
        return {"prediction": block_regression(p, torch.cat(told))}

    def after_step(self) -> None:
        """Move the teacher towards the student."""
        momentum = linear(self.progress, self.momentum, 1.0, 1.0)
        self.teacher.update(self.student, momentum=momentum)
