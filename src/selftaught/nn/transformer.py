"""Vision transformers of timm's, patch by patch, and blocks like theirs."""

import math
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from selftaught.errors import UserError
from selftaught.nn.base import Encoder, encoded
from selftaught.nn.masking import OneOfTwo, take

FUSED_FROM = 256  # tokens; below, plain attention has the faster backward on a processor
SPREAD = 0.02  # deviation of small weights


class ViT(Encoder):
    """A timm vision transformer that can leave tokens out, or hide them.

    Its positions are fixed two-dimensional sines and cosines, as in MAE (arXiv 2111.06377,
    appendix A.1) and MoCo v3; its feature is the mean of the last layer's normalised patch tokens.
    An image of another size has the same sines at as many places as it has patches.
    """

    any_size = True

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net
        self.dim: int = net.embed_dim
        self.patch: int = net.patch_embed.patch_size[0]
        self.grid: int = net.patch_embed.grid_size[0]
        self.prefix: int = net.num_prefix_tokens
        position = sine_position(self.dim, self.grid)
        with torch.no_grad():
            net.pos_embed.zero_()[:, -len(position) :] = position
        net.pos_embed.requires_grad_(False)
        net.patch_embed.strict_img_size = False
        for block in net.blocks:
            block.attn.fused_attn = self.grid**2 >= FUSED_FROM

    @property
    def feature(self) -> str:
        """Which feature ``forward`` returns, in words."""
        return "the mean over the last layer's normalised patch tokens"

    @property
    def length(self) -> int:
        """How many patches an image has."""
        return self.grid**2

    def patches(self, x: Float[Tensor, "n c s s"]) -> Float[Tensor, "n l p"]:
        """The image's patches as rows of pixels, row by row, each pixel's channels together."""
        n, c, side, _ = x.shape
        grid = side // self.patch
        x = x.reshape(n, c, grid, self.patch, grid, self.patch)
        return x.permute(0, 2, 4, 3, 5, 1).reshape(n, grid**2, -1)

    def images(self, patches: Float[Tensor, "n l p"]) -> Float[Tensor, "n c s s"]:
        """The images that have these ``patches``."""
        n, length, _ = patches.shape
        grid = math.isqrt(length)
        x = patches.reshape(n, grid, grid, self.patch, self.patch, -1).permute(0, 5, 1, 3, 2, 4)
        return x.reshape(n, -1, grid * self.patch, grid * self.patch)

    def tokens(
        self,
        x: Float[Tensor, "n c s s"],
        keep: Int[Tensor, "n k"] | None = None,
        *,
        hidden: Bool[Tensor, "n l"] | None = None,
        blank: Float[Tensor, " d"] | None = None,
    ) -> Float[Tensor, "n k d"]:
        """The last layer's normalised patch tokens.

        Patches not in ``keep`` are never looked at; those that are ``hidden`` are replaced by the
        token ``blank`` before their positions are added.
        """
        tokens = self.net.blocks(self._embedded(x, keep, hidden, blank))
        return self.net.norm(tokens)[:, self.prefix :]

    def layers(
        self,
        x: Float[Tensor, "n c s s"],
        *,
        hidden: Bool[Tensor, "n l"] | None = None,
        blank: Float[Tensor, " d"] | None = None,
    ) -> list[Float[Tensor, "n l d"]]:
        """The patch tokens after each block, from first to last, before the final norm."""
        tokens = self._embedded(x, None, hidden, blank)
        found = []
        for block in self.net.blocks:
            tokens = block(tokens)
            found.append(tokens[:, self.prefix :])
        return found

    def _embedded(
        self, x: Tensor, keep: Tensor | None, hidden: Tensor | None, blank: Tensor | None
    ) -> Tensor:
        """What the first block sees (B, prefix + K, D)."""
        net, grid = self.net, x.shape[-1] // self.patch
        tokens = net.patch_embed(x)  # (B, L, D)
        if hidden is not None:
            assert blank is not None
            tokens = torch.where(hidden.unsqueeze(-1), blank.to(tokens.dtype), tokens)
        if grid == self.grid:
            position = net.pos_embed[:, -self.length :]
        else:
            position = sine_position(self.dim, grid, self.grid).to(tokens)
        tokens = tokens + position
        if keep is not None:
            tokens = take(tokens, keep)
        tokens_before = (net.cls_token, getattr(net, "dist_token", None), net.reg_token)
        prefix = [t for t in tokens_before if t is not None]
        tokens = torch.cat([*(t.expand(x.shape[0], -1, -1) for t in prefix), tokens], dim=1)
        return net.norm_pre(net.pos_drop(tokens))

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, dim), the mean over patches."""
        return self.tokens(x).mean(dim=1)

    def maps(self, x: Tensor) -> Tensor:
        """The patch tokens as a map (B, dim, H, W)."""
        grid = x.shape[-1] // self.patch
        return self.tokens(x).transpose(1, 2).unflatten(2, (grid, grid))


def seen_in_part(
    encoder: ViT, views: tuple[Tensor, ...], blanked: OneOfTwo, blank: Float[Tensor, " d"]
) -> tuple[Float[Tensor, "v_n d"], Float[Tensor, "n m d"]]:
    """Features of all views, patches of the first two ``blank``, and the tokens in their place.

    As iBOT's student sees them (Zhou et al. 2021, arXiv 2111.07832, algorithm 1).
    """
    tokens = encoder.tokens(torch.cat(views[:2]), hidden=blanked.hidden, blank=blank)  # (2N, L, D)
    h = torch.cat([tokens.mean(dim=1), *encoded(encoder, views[2:])])
    return h, blanked.of(tokens)


def with_tokens(encoder: Encoder, method: str) -> ViT:
    """The encoder, which has tokens. Raises UserError, which names the ``method``, for another."""
    if not isinstance(encoder, ViT):
        raise UserError(
            f"{method} needs an encoder with tokens: use --encoder vit-nano, or timm's vit_* or "
            "deit*"
        )
    return encoder


def sine_position(dim: int, grid: int, extent: int | None = None) -> Float[Tensor, "l d"]:
    """Fixed positions of a square grid, row by row: half of the channels for each coordinate.

    Each half is the sines, then the cosines of the coordinate over wavelengths from 2 pi to
    10,000 * 2 pi, as in MAE's code; the column comes first. With ``extent`` the grid is stretched
    over a square of that many places a side.
    """
    frequency = 10000 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim / 4))  # (D/4,)
    stretch = (extent or grid) / grid
    place = (torch.arange(grid, dtype=torch.float64) + 0.5) * stretch - 0.5
    row, column = torch.meshgrid(place, place, indexing="ij")
    halves = []
    for coordinate in (column, row):
        angle = coordinate.reshape(-1, 1) * frequency  # (L, D/4)
        halves += [angle.sin(), angle.cos()]
    return torch.cat(halves, dim=1).float()


def transformer(dim: int, depth: int, heads: int, length: int) -> nn.Sequential:
    """Pre-norm transformer blocks with a final norm, for ``length`` tokens of ``dim`` channels."""
    from timm.models.vision_transformer import Block

    blocks: list[Any] = [Block(dim, heads, qkv_bias=True) for _ in range(depth)]
    for block in blocks:
        block.attn.fused_attn = length >= FUSED_FROM
    return nn.Sequential(*blocks, nn.LayerNorm(dim, eps=1e-6))


def initialize(module: nn.Module, bound: float = 2.0) -> None:
    """Small normal weights of all linear layers, cut off at ``bound``, and biases of zero."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=SPREAD, a=-bound, b=bound)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


@torch.no_grad()
def begin_small(encoder: ViT, *heads: nn.Module) -> None:
    """Weights within a small range, and the less from a block the deeper it lies.

    BEiT (Bao et al. 2021, arXiv 2106.08254), section 2.5: the output matrices of the attention and
    of the feed-forward part of block l are divided by sqrt(2 l). The weights are normal ones cut
    off at one deviation, as in the authors' code and in those of SimMIM and data2vec.

    Deviation: the patch embedding begins as PyTorch has it, whose size does not depend on the
    patch's, where theirs is too small for patches of few pixels.
    """
    for part in (encoder.net, *heads):
        initialize(part, bound=SPREAD)
    if encoder.net.cls_token is not None:
        nn.init.trunc_normal_(encoder.net.cls_token, std=SPREAD, a=-SPREAD, b=SPREAD)
    for number, block in enumerate(encoder.net.blocks, start=1):
        for matrix in (block.attn.proj.weight, block.mlp.fc2.weight):
            matrix /= math.sqrt(2 * number)


def fuse_attention(module: nn.Module) -> None:
    """Take the fused attention everywhere, as suits a GPU whatever the number of tokens."""
    for part in module.modules():
        if hasattr(part, "fused_attn"):
            part.fused_attn = True  # pyright: ignore
