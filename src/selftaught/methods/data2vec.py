"""data2vec: see a part, predict what a slow copy makes of the whole there."""

from collections.abc import Callable
from typing import Any, Self

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from selftaught import dist
from selftaught.errors import UserError
from selftaught.method import Method, ViewBatch
from selftaught.nn.masking import image_blocks
from selftaught.nn.memory import EMA
from selftaught.nn.schedules import linear
from selftaught.nn.transformer import ViT, begin_small, initialize
from selftaught.objectives.latent import Norm, masked_regression, mean_of_blocks


class Data2Vec(Method):
    """data2vec: A General Framework for Self-supervised Learning in Speech, Vision and Language.

    Baevski et al. 2022, https://arxiv.org/abs/2202.03555, section 3. The target is the mean over
    the last ``top`` blocks of what an average of the encoder makes of the whole input; the encoder
    sees one learned token in the hidden places, and a linear layer predicts the target there. The
    average's momentum rises from ``momentum`` to ``final_momentum`` in the first ``ramp`` of the
    run, in a line. Defaults are those for images. With ``masks`` above 1 each input is hidden in
    several ways for one target, as in data2vec 2.0 (https://arxiv.org/abs/2212.07525, section 3.2).

    The encoder needs ``dim``, ``layers(x)``, the tokens after each block, and ``tokens(x, hidden=,
    blank=)``. ``mask`` says of (x, samples, tokens) which tokens of this process's samples are
    hidden, drawn for the global batch; it may look at x for padding. A vision transformer begins as
    that of the authors' code for images does, see `begin_small`. As in that code a block's output
    is what leaves it, not that of its feed-forward part, as for text and speech, and the average
    has a patch embedding of its own, where the paper's section 3.2 shares the encoder's.

    Deviations: those of `blockwise`; a vision transformer's positions are fixed sines and cosines,
    without layer scale, drop path and dropout of attention; of 2.0 there is neither its decoder
    nor its encoder that leaves hidden tokens out. Raises UserError for an encoder without tokens
    and for settings out of range.
    """

    def __init__(
        self,
        encoder: Any,
        *,
        mask: Callable[[Any, int, int], Bool[Tensor, "n l"]] = image_blocks,
        masks: int = 1,
        top: int = 6,
        block_norm: Norm = "layer",
        final_norm: Norm = "layer",
        beta: float = 2.0,
        momentum: float = 0.9998,
        final_momentum: float = 0.9998,
        ramp: float = 0.0,
    ) -> None:
        super().__init__()
        if not (hasattr(encoder, "layers") and hasattr(encoder, "tokens")):
            raise UserError(
                "data2vec needs an encoder with tokens: use --encoder vit-nano, or timm's vit_* or "
                "deit*"
            )
        if min(top, masks) < 1 or beta < 0:
            raise UserError(
                f"{top} blocks, {masks} masks, a beta of {beta}; use --top and --masks from 1, "
                "--beta from 0"
            )
        if not 0 <= momentum <= final_momentum <= 1 or not 0 <= ramp <= 1:
            raise UserError(
                f"a momentum from {momentum} to {final_momentum} in {ramp} of the run; use "
                "--momentum, --final-momentum (the larger) and --ramp with numbers from 0 to 1"
            )
        self.encoder = encoder
        self.blank = nn.Parameter(torch.randn(encoder.dim) * 0.02)
        self.head = nn.Linear(encoder.dim, encoder.dim)
        initialize(self.head)
        if isinstance(encoder, ViT):
            begin_small(encoder, self.head)
        self.target = EMA(encoder)
        self.mask, self.masks, self.top, self.beta = mask, masks, top, beta
        self.norms = (block_norm, final_norm)
        self.momenta = (momentum, final_momentum, ramp)

    def train(self, mode: bool = True) -> Self:
        """Dropout is for the encoder, not for what it predicts."""
        super().train(mode)
        self.target.eval()
        return self

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``regression`` of the target at hidden places, mean over the global batch's."""
        (x,) = batch.views
        target = self.targets(x)  # (B, L, D)
        losses = []
        for _ in range(self.masks):
            hidden = self.mask(x, *target.shape[:2]).to(target.device)  # (B, L)
            p = self.head(self.encoder.tokens(x, hidden=hidden, blank=self.blank))  # (B, L, D)
            count = hidden.sum().to(target)
            share = count * dist.world_size() / dist.total(count)
            losses.append(share * masked_regression(p, target, hidden, self.beta))
        return {"regression": torch.stack(losses).mean()}

    @torch.no_grad()
    def targets(self, x: Any) -> Float[Tensor, "n l d"]:
        """What is to be predicted: the last blocks' outputs on the whole input, averaged."""
        (teacher,) = self.target.modules_
        blocks: list[Tensor] = teacher.layers(x)  # pyright: ignore
        if len(blocks) < self.top:
            raise UserError(f"an encoder of {len(blocks)} blocks; use --top up to that")
        block_norm, final_norm = self.norms
        return mean_of_blocks(*blocks[-self.top :], block_norm=block_norm, final_norm=final_norm)

    def after_step(self) -> None:
        """Move the average towards the encoder."""
        self.target.update(self.encoder, momentum=linear(self.progress, *self.momenta))
