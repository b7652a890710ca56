"""Label-free signals from the second moments of features, gathered batch by batch.

They compare runs of one method, never two methods or two backbones: across families the sign of
their relation to accuracy can flip.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from selftaught.errors import UserError

FIRST, LAST = 11, 100  # ranks of the eigenvalues that alpha is fitted to


class Sums(NamedTuple):
    """What is known of the features: sums over samples, in float64; those of two sets add up."""

    n: Tensor  # () samples
    z: Tensor  # (D,) sum of features
    gram: Tensor  # (D, D) sum of their outer products, Z^T Z
    unit: Tensor  # (D,) sum of features scaled to length one
    unit_square: Tensor  # (D,) sum of the squares of these


class Signals(NamedTuple):
    """Label-free signals of one set of features.

    They grow with ``n``: compare them at equal ``n`` and print it. Those of the spectrum are
    None where ``n`` < 2 ``dim``, where they would tell the number of samples and not the features.
    A spectrum of zeros alone (no features, or no spread) has rank 0.
    """

    n: int  #: samples
    dim: int  #: features of a sample

    feature_std: float | None
    """Mean over dimensions of the standard deviation of features of length one, times sqrt(dim):
    about 1 where they are isotropic, 0 where they have collapsed to a point. It misses dimensional
    collapse. SimSiam, https://arxiv.org/abs/2011.10566, section 4.1. None without samples."""

    mean_cosine: float | None
    """Mean cosine over all pairs of two samples. None with fewer than two."""

    rankme: float | None = None
    """exp(entropy) of s / sum(s) + 1e-7, s the singular values of the uncentred features: RankMe,
    Garrido et al. 2023, https://arxiv.org/abs/2210.02885, equations 1 and 2. The paper takes the
    outputs of the projection head; here it is of whatever features were added."""

    effective_rank: float | None = None
    """exp(entropy) of s / sum(s), s as in RankMe: Roy and Vetterli 2007, "The effective rank". The
    one to watch while training: without the 1e-7 it is 1 where all features are equal."""

    centred_rank: float | None = None
    """The effective rank of the features less their mean. It misses total collapse: what little
    noise is left around the one point may well have full rank."""

    stable_rank: float | None = None
    """|Z|_F^2 / |Z|_2^2 of the uncentred features."""

    nesum: float | None = None
    """Sum of the eigenvalues of the covariance over the largest: He and Ozay 2022, "Exploring the
    Gap between Collapsed & Whitened Features in Self-Supervised Learning",
    https://proceedings.mlr.press/v162/he22c.html."""

    alpha: float | None = None
    """Exponent of the decay of the covariance's eigenvalues, i^-alpha, by least squares of
    log(eigenvalue) on log(i) over ranks i from 11 to 100, each weighted by 1 / i: alpha-ReQ,
    Agrawal et al. 2022, NeurIPS 35, by the fit of its code, whose scripts begin at ranks from 4 to
    12. Eigenvalues of zero are left out; where fewer than 22 are left, the first half of them is
    passed over instead of ten. None where fewer than two are left."""


class Spectrum:
    """A streaming float64 accumulator of what the signals need: O(B D^2) a batch, O(D^2) memory.

    Over several processes, let each add its own features and sum the parts once:
    ``spectrum.sums = Sums(*map(all_reduce_sum, spectrum.sums))``. The order and the division into
    batches matter only to rounding.
    """

    def __init__(self, dim: int, device: torch.device | str = "cpu") -> None:
        shapes = ((), (dim,), (dim, dim), (dim,), (dim,))
        self.dim = dim
        self.sums = Sums(*(torch.zeros(s, dtype=torch.float64, device=device) for s in shapes))

    @torch.no_grad()
    def add(self, z: Tensor) -> None:
        """Take in the features of some samples, (B, D) of any float type; nothing is read back.

        Raises ``UserError`` where the shape is another.
        """
        if z.ndim != 2 or z.shape[1] != self.dim:
            raise UserError(f"features of shape {tuple(z.shape)}; give (batch, {self.dim})")
        z = z.detach().to(self.sums.z)  # (B, D)
        length = torch.linalg.vector_norm(z, dim=1, keepdim=True)
        unit = z / length.where(length > 0, 1)  # zeros stay zeros
        count = self.sums.n.new_tensor(len(z))
        batch = Sums(count, z.sum(dim=0), z.T @ z, unit.sum(dim=0), unit.square().sum(dim=0))
        for total, part in zip(self.sums, batch, strict=True):
            total += part

    def merge(self, other: "Spectrum") -> None:
        """Take in all that another accumulator has seen.

        Raises ``UserError`` where its features have another size.
        """
        if other.dim != self.dim:
            raise UserError(f"features of size {other.dim} and {self.dim}; merge equal sizes only")
        for total, part in zip(self.sums, other.sums, strict=True):
            total += part.to(total)

    @torch.no_grad()
    def signals(self) -> Signals:
        """The signals of all features so far.

        Raises ``UserError`` where a feature was NaN or infinite.
        """
        sums = Sums(*(part.cpu() for part in self.sums))
        if not all(part.isfinite().all() for part in sums):
            raise UserError("features hold NaN or infinity; find the first step that made them")
        n = int(sums.n)
        std = cosine = None
        if n > 0:
            variance = sums.unit_square / n - (sums.unit / n).square()
            std = variance.clamp(min=0).sqrt().mean().item() * self.dim**0.5
        if n > 1:
            pairs = sums.unit.square().sum() - sums.unit_square.sum()
            cosine = pairs.item() / (n * (n - 1))
        signals = Signals(n, self.dim, std, cosine)
        return signals if n < 2 * self.dim else signals._replace(**_spectral(sums, n))


def _spectral(sums: Sums, n: int) -> dict[str, float | None]:
    noise = len(sums.z) * torch.finfo(torch.float64).eps * sums.gram.trace()
    raw = _eigenvalues(sums.gram, noise)
    centred = _eigenvalues(sums.gram - torch.outer(sums.z, sums.z) / n, noise)
    return {
        "rankme": _entropy_rank(raw.sqrt(), eps=1e-7),
        "effective_rank": _entropy_rank(raw.sqrt()),
        "centred_rank": _entropy_rank(centred.sqrt()),
        "stable_rank": _over_largest(raw),
        "nesum": _over_largest(centred),
        "alpha": _decay(centred),
    }


def _eigenvalues(matrix: Tensor, noise: Tensor) -> Tensor:
    """Eigenvalues (D,), descending; what float64 cannot tell from zero is zero."""
    values = torch.linalg.eigvalsh(matrix).flip(0)
    return values.where(values > noise, 0)


def _entropy_rank(s: Tensor, eps: float = 0.0) -> float:
    if s[0] == 0:
        return 0.0
    p = s / s.sum() + eps
    return torch.special.entr(p).sum().exp().item()


def _over_largest(values: Tensor) -> float:
    return (values.sum() / values[0]).item() if values[0] > 0 else 0.0


def _decay(values: Tensor) -> float | None:
    y = values[values > 0].log()
    if len(y) < 2:
        return None
    skipped = max(0, min(FIRST, len(y) // 2) - 1)
    rank = torch.arange(1, len(y) + 1, dtype=y.dtype)[skipped:LAST]
    x, weight = rank.log(), 1 / rank
    x = x - weight @ x / weight.sum()
    return -((weight * x) @ y[skipped:LAST] / ((weight * x) @ x)).item()
