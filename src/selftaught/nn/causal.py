"""Transformers whose tokens see only those before them."""

from typing import TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from selftaught.errors import UserError
from selftaught.nn.transformer import FUSED_FROM

Past: TypeAlias = dict[nn.Module, tuple[Tensor, Tensor]]  # keys and values so far, of each block


class CausalBlock(nn.Module):
    """A pre-norm transformer block in which each token sees itself and those before it.

    GPT-2's (Radford et al. 2019), without biases and with initial weights as in the code of Image
    GPT (Chen et al. 2020): what attention adds to the residual stream is smaller the more blocks
    there are in ``total``; what the feed-forward part adds is not.
    """

    def __init__(self, dim: int, heads: int, length: int, total: int) -> None:
        super().__init__()
        if min(dim, heads) < 1 or dim % heads:
            raise UserError(
                f"{dim} channels and {heads} heads; use --heads with a divisor of --dim"
            )
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim, bias=False)
        self.up = nn.Linear(dim, 4 * dim, bias=False)
        self.down = nn.Linear(4 * dim, dim, bias=False)
        self.heads = heads
        self.fused_attn = length >= FUSED_FROM
        nn.init.normal_(self.qkv.weight, std=dim**-0.5)
        nn.init.normal_(self.proj.weight, std=(dim * total) ** -0.5)
        nn.init.normal_(self.up.weight, std=0.02)
        nn.init.normal_(self.down.weight, std=0.02)

    def forward(
        self, x: Float[Tensor, "n l d"], past: Past | None = None
    ) -> Float[Tensor, "n l d"]:
        """The changed tokens. With a ``past``, x is one token that comes after it and joins it."""
        qkv = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, H, L, D / H) each
        if past is not None:
            assert x.shape[1] == 1
            if self in past:
                k, v = torch.cat([past[self][0], k], dim=2), torch.cat([past[self][1], v], dim=2)
            past[self] = (k, v)
        x = x + self.proj(self._attended(q, k, v).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.norm2(x))))

    def _attended(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        whole = q.shape[2] == k.shape[2]  # else one token sees all there are
        if self.fused_attn:
            return F.scaled_dot_product_attention(q, k, v, is_causal=whole)
        scores = (q * q.shape[-1] ** -0.5) @ k.transpose(2, 3)  # (B, H, Q, L)
        if whole:
            later = torch.ones(scores.shape[2:], dtype=torch.bool, device=q.device).triu(1)
            scores = scores.masked_fill(later, -torch.inf)
        return scores.softmax(dim=-1) @ v
