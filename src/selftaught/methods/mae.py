"""MAE: see a quarter of the patches, paint the rest."""

import torch
from torch import Tensor, nn

from selftaught.errors import UserError
from selftaught.method import Method, ViewBatch
from selftaught.nn.base import Encoder
from selftaught.nn.masking import random_split, take
from selftaught.nn.transformer import ViT, sine_position, transformer, with_tokens
from selftaught.objectives.reconstruction import patch_regression


class MAE(Method):
    """Masked Autoencoders Are Scalable Vision Learners.

    He et al. 2021, https://arxiv.org/abs/2111.06377, section 3 and appendix A. The encoder sees the
    kept patches only; a light decoder sees their tokens, and one learned token at every hidden
    place, and predicts the hidden patches' pixels, each patch normalised. Positions are fixed sines
    and cosines on both sides.

    Deviation: the class token of an encoder that has one stays in the encoder, where the authors'
    decoder sees it too.

    Raises UserError for an encoder without tokens and for a ratio that hides or leaves nothing.
    """

    fixed_answers = True

    def __init__(
        self,
        encoder: Encoder,
        *,
        ratio: float = 0.75,
        dim: int = 512,
        depth: int = 8,
        heads: int = 16,
        normalize_target: bool = True,
    ) -> None:
        super().__init__()
        encoder = with_tokens(encoder, "mae")
        if not 0 < int(encoder.length * (1 - ratio)) < encoder.length:
            raise UserError(
                f"a ratio of {ratio} of {encoder.length} patches hides nothing or leaves nothing; "
                "use --ratio 0.75 or smaller patches"
            )
        channels = encoder.net.patch_embed.proj.in_channels
        if dim % heads or dim % 4:
            raise UserError(
                f"a decoder of {dim} channels and {heads} heads; make {heads} divide it"
            )
        if normalize_target and encoder.patch**2 * channels == 1:
            raise UserError("patches of one number cannot be normalised; use --patch 2 or more")
        self.encoder: ViT = encoder
        self.widen = nn.Linear(encoder.dim, dim)
        self.mask = nn.Parameter(torch.randn(1, 1, dim) * 0.02)
        self.position = nn.Buffer(sine_position(dim, encoder.grid)[None])  # (1, L, dim)
        self.decoder = transformer(dim, depth, heads, encoder.length)
        self.pixels = nn.Linear(dim, encoder.patch**2 * channels)
        self.ratio = ratio
        self.normalize_target = normalize_target
        self.told = "the mean and contrast of each hidden patch" if normalize_target else ""
        self.apply(initialize)
        nn.init.xavier_uniform_(encoder.net.patch_embed.proj.weight.flatten(1))
        if encoder.net.cls_token is not None:
            nn.init.normal_(encoder.net.cls_token, std=0.02)

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``reconstruction`` of the hidden patches' pixels."""
        (x,) = batch.views
        prediction, hidden = self._painted(x)
        target = take(self.encoder.patches(x), hidden)
        loss = patch_regression(prediction, target, normalize=self.normalize_target)
        return {"reconstruction": loss}

    def _painted(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Predictions (B, L-K, P) of the hidden patches, and which these are (B, L-K)."""
        n, length = len(x), self.encoder.length
        kept, hidden = random_split(n, length, self.ratio, x.device)  # (B, K), (B, L-K)
        seen = self.widen(self.encoder.tokens(x, kept))  # (B, K, D)
        blank = self.mask.expand(n, hidden.shape[1], -1)  # (B, L-K, D)
        order = torch.cat([kept, hidden], dim=1)  # (B, L)
        position = take(self.position.expand(n, -1, -1), order)
        tokens = torch.cat([seen, blank.to(seen.dtype)], dim=1) + position
        return self.pixels(self.decoder(tokens)[:, kept.shape[1] :]), hidden

    def pictures(self, x: Tensor) -> dict[str, Tensor]:
        """The patches that were ``seen``, and with them the ``painted`` ones.

        Of normalised targets the mean and the deviation are the hidden patch's own, as ``told``
        says; the authors draw models of plain pixels.
        """
        prediction, hidden = self._painted(x)
        patches = self.encoder.patches(x)
        if self.normalize_target:
            target = take(patches, hidden)
            prediction = prediction * target.std(-1, keepdim=True) + target.mean(-1, keepdim=True)
        place = hidden.unsqueeze(-1).expand_as(prediction)
        seen = patches.scatter(1, place, 0.0)
        painted = patches.scatter(1, place, prediction.to(patches.dtype))
        return {"seen": self.encoder.images(seen), "painted": self.encoder.images(painted)}


def initialize(module: nn.Module) -> None:
    """Xavier-uniform linear layers, biases at zero, as in the authors' code."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
