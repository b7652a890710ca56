"""A codebook: vectors that stand for all others."""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from selftaught import dist
from selftaught.errors import UserError
from selftaught.nn import clusters
from selftaught.nn.memory import Memory
from selftaught.precision import float32


class Uses(NamedTuple):
    """How a global batch used a codebook."""

    counts: Float[Tensor, " k"]  # rows of each code
    sums: Float[Tensor, "k d"]  # of these rows
    drawn: Float[Tensor, "k d"]  # rows at random, one a code


class Codebook(Memory):
    """``count`` vectors of ``dim`` numbers.

    VQ-VAE (van den Oord et al. 2017, arXiv 1711.00937). Without a ``decay`` the vectors are a
    parameter, which the objective's codebook term moves. With one they move in `update` alone, as
    moving averages of the rows they stand for (appendix A.1), and a code whose average use falls
    below ``restart`` of an even use begins anew at a random row of the batch (as in Jukebox,
    Dhariwal et al. 2020, arXiv 2005.00341, section 3; not in the paper). An unused code of a
    codebook without a decay stays where it is.

    Raises UserError for fewer than two codes, and for a decay or a restart out of range.
    """

    def __init__(self, count: int, dim: int, *, decay: float = 0.0, restart: float = 0.0) -> None:
        super().__init__()
        if count < 2 or dim < 1:
            raise UserError(f"{count} codes of {dim} numbers; use --codes from 2 and --dim from 1")
        if not 0 <= decay < 1:
            raise UserError(f"a decay of {decay}; use --decay with a number from 0 to below 1")
        if not 0 <= restart < 1:
            raise UserError(f"a restart of {restart}; use --restart with 0 to below 1")
        vectors = torch.randn(count, dim) / math.sqrt(dim)
        self.vectors = nn.Buffer(vectors) if decay else nn.Parameter(vectors)  # (K, D)
        self.sizes = nn.Buffer(torch.zeros(count))  # (K,) average rows of each code a step
        self.decay, self.restart = decay, restart

    @torch.no_grad()
    @float32
    def nearest(self, z: Float[Tensor, "*n d"]) -> Int[Tensor, "*n"]:
        """The code at the smallest distance from each row (equation 1)."""
        return clusters.nearest(z.flatten(0, -2), self.vectors).view(z.shape[:-1])

    def forward(self, ids: Int[Tensor, "*n"]) -> Float[Tensor, "*n d"]:
        """The vectors of codes (equation 2)."""
        return F.embedding(ids, self.vectors)

    @torch.no_grad()
    def uses(self, z: Float[Tensor, "*n d"], ids: Int[Tensor, "*n"]) -> Uses:
        """What `update` needs to know of rows z and their codes, over all processes."""
        z, ids = z.flatten(0, -2).to(self.vectors), ids.flatten()
        count = len(self.vectors)
        counts = torch.bincount(ids, minlength=count).to(z)
        sums = torch.zeros_like(self.vectors).index_add_(0, ids, z)
        places = torch.randperm(len(z) * dist.world_size())  # none twice, or two codes are one
        places = places.repeat(-(-count // len(places)))[:count].to(z.device)
        return Uses(dist.total(counts), dist.total(sums), dist.gather(z)[places])

    @torch.no_grad()
    def update(self, uses: Uses) -> None:
        """Move the averages by one batch; nothing without a decay.

        Of appendix A.1's N, m and e = m / N only N and e are kept: m is their product. N begins at
        zero, so that the first batch places the codes that it uses. An even use is the mean of N,
        which begins at zero, too.
        """
        if not self.decay:
            return
        counts, sums, drawn = uses
        fresh = 1 - self.decay
        sizes = self.decay * self.sizes + fresh * counts
        tiny = torch.finfo(sizes.dtype).tiny
        pull = fresh * (sums - counts[:, None] * self.vectors) / sizes.clamp(min=tiny)[:, None]
        least = self.restart * sizes.mean()
        moved = torch.where((sizes < least)[:, None], drawn, self.vectors + pull)
        self.vectors.copy_(moved)
        self.sizes.copy_(sizes.maximum(least))


def straight_through(z: Float[Tensor, "*n d"], q: Float[Tensor, "*n d"]) -> Float[Tensor, "*n d"]:
    """The values of q, with a gradient that goes to z unchanged (section 3.2)."""
    return z + (q - z).detach()


def perplexity(counts: Float[Tensor, " k"]) -> Float[Tensor, ""]:
    """How many codes are in even use: the exponential of the entropy of their shares."""
    return torch.special.entr(counts / counts.sum()).sum().exp()
