"""Tell an image from all others by a memory of them, exactly or against a sample of it."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from selftaught.precision import float32


@float32
def similarities(
    z: Float[Tensor, "n d"], bank: Float[Tensor, "m d"], index: Int[Tensor, "n k"], t: float
) -> Float[Tensor, "n k"]:
    """Cosines of each feature with its own choice of a bank's unit vectors, over temperature ``t``.

    The bank gets no gradient. Where the chosen vectors would take more memory than the cosines with
    all of the bank, these are computed.
    """
    z, bank = F.normalize(z, dim=1), bank.detach()
    if index.shape[1] * z.shape[1] > len(bank):
        return (z @ bank.T).gather(1, index) / t
    return torch.einsum("nd,nkd->nk", z, bank[index]) / t


@float32
def instance_softmax(
    z: Float[Tensor, "n d"], bank: Float[Tensor, "m d"], index: Int[Tensor, " n"], t: float
) -> Float[Tensor, ""]:
    """Cross-entropy of finding each image's own entry among all of a bank's unit vectors.

    InstDisc (Wu et al. 2018, arXiv 1805.01978), equations 2 and 3, temperature ``t``. The bank gets
    no gradient. With no information it is ln(M).
    """
    return F.cross_entropy(F.normalize(z, dim=1) @ bank.detach().T / t, index)


@float32
def log_partition(noise: Float[Tensor, "n m"], count: int) -> Float[Tensor, ""]:
    """Logarithm of the sum of exp(score) over ``count`` entries, from a sample of scores.

    InstDisc (Wu et al. 2018, arXiv 1805.01978), equation 8, mean over the batch; without a
    gradient.
    """
    return noise.detach().logsumexp(dim=(0, 1)) + math.log(count / noise.numel())


@float32
def noise_contrast(
    own: Float[Tensor, " n"], noise: Float[Tensor, "n m"], log_constant: Tensor, count: int
) -> Float[Tensor, ""]:
    """Tell an image's own entry, by its score, from M entries drawn at random from ``count``.

    InstDisc (Wu et al. 2018, arXiv 1805.01978), equations 4 to 7: a sum over the noise, a mean over
    images; exp(``log_constant``) is Z.
    """
    shift = log_constant + math.log(noise.shape[1] / count)  # a score there is as likely as noise
    return -(F.logsigmoid(own - shift) + F.logsigmoid(shift - noise).sum(dim=1)).mean()
