"""What is remembered between batches; persistent, so that a checkpoint holds it."""

import copy
import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from selftaught import dist
from selftaught.errors import UserError, from_zero_to_one
from selftaught.precision import float32


class EMA(nn.Module):
    """An exponential moving average of one or several modules, applied one after the other.

    Its parameters get no gradient. Running statistics of batch norm are its own: its forward passes
    move them, as those of the sources move theirs.
    """

    def __init__(self, *sources: nn.Module) -> None:
        super().__init__()
        self.modules_ = nn.ModuleList(copy.deepcopy(source) for source in sources)
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """Apply the averaged modules in turn, without a gradient."""
        for module in self.modules_:
            x = module(x)
        return x

    @torch.no_grad()
    def update(self, *sources: nn.Module, momentum: float) -> None:
        """Move by (1 - momentum) of the way towards the sources."""
        for mean, source in zip(self.modules_, sources, strict=True):
            for a, b in zip(mean.parameters(), source.parameters(), strict=True):
                a.lerp_(b, 1 - momentum)


class Memory(nn.Module):
    """Buffers, possibly large, that move in ``after_step`` or ``survey`` and never in ``forward``.

    So they need no copy in case a step has to be undone.
    """


class Queue(Memory):
    """The last ``size`` rows that were pushed, the oldest overwritten first.

    It begins with random unit vectors, as MoCo's does (He et al. 2019, arXiv 1911.05722,
    algorithm 1 and the authors' code).
    """

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        if size < 1:
            raise UserError(f"a queue of {size}; use --queue with 1 or more")
        self.rows = nn.Buffer(F.normalize(torch.randn(size, dim), dim=1))  # (Q, D)
        self.place = nn.Buffer(torch.zeros((), dtype=torch.long))  # where the next row goes
        self.pushed = nn.Buffer(torch.zeros((), dtype=torch.long))  # rows so far

    @property
    def full(self) -> Tensor:
        """Whether every row has been pushed: a scalar bool."""
        return self.pushed >= len(self.rows)

    @torch.no_grad()
    def push(self, x: Float[Tensor, "b d"]) -> None:
        """Put rows in; of more than fit, the last."""
        size, count = len(self.rows), len(x)
        x = x[-size:].to(self.rows)
        to = self.place + torch.arange(count - len(x), count, device=self.place.device)
        self.rows[to % size] = x
        self.place.copy_((self.place + count) % size)
        self.pushed += count


class Bank(Memory):
    """One unit vector for each image of the data, random at first.

    InstDisc (Wu et al. 2018, arXiv 1805.01978), section 3.1.
    """

    def __init__(self, count: int, dim: int) -> None:
        super().__init__()
        self.rows = nn.Buffer(F.normalize(torch.randn(count, dim), dim=1))  # (N, D)

    @torch.no_grad()
    def update(
        self, index: Int[Tensor, " b"], x: Float[Tensor, "b d"], *, momentum: float = 0.0
    ) -> None:
        """Move rows by (1 - momentum) of the way towards x, each of length one before and after.

        Where an index comes more than once, its last row counts.
        """
        last = torch.full((len(self.rows),), -1, dtype=torch.long, device=index.device)
        place = torch.arange(len(index), device=index.device)
        last.scatter_reduce_(0, index, place, "amax")
        index, x = index[last[index] == place], x[last[index] == place]
        x = F.normalize(x.to(self.rows), dim=1)
        moved = momentum * self.rows[index] + (1 - momentum) * x
        self.rows[index] = F.normalize(moved, dim=1)


class NoiseConstant(Memory):
    """The logarithm of Z by which a noise-contrastive estimation takes scores for probabilities.

    InstDisc (Wu et al. 2018, arXiv 1805.01978), section 3.2: estimated once, from the first batch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log = nn.Buffer(torch.tensor(-math.inf))  # not yet estimated

    def settled(self, estimate: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """What was kept, or else the mean over processes of Z by this ``estimate`` of its log."""
        estimates = dist.gather(estimate[None])  # (W,)
        mean = estimates.logsumexp(0) - math.log(len(estimates))
        self.found = torch.where(self.log.isneginf(), mean, self.log)
        return self.found

    @torch.no_grad()
    def keep(self) -> None:
        """Keep what was settled last."""
        self.log.copy_(self.found)


class Centre(Memory):
    """The running mean of a teacher's scores, zero at first.

    DINO (Caron et al. 2021, arXiv 2104.14294), equation 4.
    """

    def __init__(self, dim: int, momentum: float) -> None:
        super().__init__()
        from_zero_to_one(centre_momentum=momentum)
        self.value = nn.Buffer(torch.zeros(dim))  # (K,)
        self.momentum = momentum

    @torch.no_grad()
    def update(self, mean: Float[Tensor, " k"]) -> None:
        """Move by (1 - momentum) of the way towards the mean of a batch."""
        self.value.lerp_(mean.to(self.value), 1 - self.momentum)


class Prototypes(nn.Linear):
    """Unit vectors that features are compared with: (B, D) to scores (B, K).

    SwAV (Caron et al. 2020, arXiv 2006.09882), section 3.1.
    """

    def __init__(self, dim: int, count: int) -> None:
        super().__init__(dim, count, bias=False)
        self.normalize_()

    @torch.no_grad()
    def normalize_(self) -> None:
        """Put every prototype back to length one."""
        self.weight.copy_(F.normalize(self.weight, dim=1))

    @float32
    def forward(self, input: Tensor, *, learn: bool = True) -> Tensor:
        """Scores (B, K); without ``learn`` the prototypes get no gradient.

        None and not zero, so that an optimiser's averages begin when they begin to learn.
        """
        return F.linear(input, self.weight if learn else self.weight.detach())
