"""Label-free signals from several views of each sample, and from pairs of samples.

They compare runs of one method, never two methods or two backbones.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from selftaught.errors import UserError

DELTA, EPSILON = 1e-4, 1e-7


@torch.no_grad()
def lidar(z: Float[Tensor, "n q d"]) -> float:
    """Rank of what tells samples apart over what tells views of one sample apart.

    LiDAR (Thilak et al. 2023, arXiv 2312.04000), section 4: exp(entropy) of l / sum(l) + 1e-7, l
    the eigenvalues of W^-1/2 B W^-1/2, B the covariance of the samples' means and W the mean
    covariance of their views, plus 1e-4 on its diagonal. z are n samples in q views, which have to
    be real ones of one sample; of which features, and of how many samples, the caller says. It is
    blind to a collapse to one point, where the little that is left still tells samples apart.
    Raises UserError for fewer than two samples or two views.
    """
    if min(z.shape[:2]) < 2:
        raise UserError(f"{z.shape[0]} samples of {z.shape[1]} views; give two or more of both")
    z = z.double()
    means = z.mean(dim=1)  # (N, D)
    apart = means - means.mean(dim=0)
    inside = (z - means[:, None]).flatten(0, 1)
    between = apart.T @ apart / len(apart)
    within = inside.T @ inside / len(inside)
    within += DELTA * torch.eye(z.shape[2], dtype=z.dtype, device=z.device)
    values, vectors = torch.linalg.eigh(within)
    root = vectors * values.rsqrt()  # W^-1/2 up to a rotation, which eigenvalues do not see
    found = torch.linalg.eigvalsh(root.T @ between @ root).clamp(min=0)
    p = found / found.sum().clamp(min=torch.finfo(found.dtype).tiny) + EPSILON
    return torch.special.entr(p).sum().exp().item()


@torch.no_grad()
def alignment(z: Float[Tensor, "n q d"]) -> float:
    """Mean squared distance of two views of a sample, at length one: 0 where views are one.

    Wang & Isola 2020, arXiv 2005.10242, equation 2 with exponent 2; says nothing without
    `uniformity`. Raises UserError for fewer than two views.
    """
    q = z.shape[1]
    if q < 2:
        raise UserError(f"{q} view of each sample; give two or more")
    unit = F.normalize(z.double(), dim=2)
    cosine = (unit.sum(dim=1).square().sum(dim=1) - unit.square().sum(dim=(1, 2))) / (q * (q - 1))
    return (2 - 2 * cosine).mean().item()


@torch.no_grad()
def uniformity(z: Float[Tensor, "n d"]) -> float:
    """Log of the mean of exp(-2 |u - v|^2) over pairs at length one; 0 where all are one.

    Wang & Isola 2020, arXiv 2005.10242, equation 3 with t = 2: the smaller, the more evenly the
    features lie on the sphere. Raises UserError for fewer than two samples.
    """
    if len(z) < 2:
        raise UserError(f"{len(z)} sample has no other; give two or more")
    unit = F.normalize(z.double(), dim=1)
    return torch.pdist(unit).square().mul(-2).exp().mean().log().item()
