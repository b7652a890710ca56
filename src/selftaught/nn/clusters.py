"""k-means, what it is given and what is remembered of it."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from selftaught import dist
from selftaught.errors import UserError
from selftaught.nn.memory import Bank, Memory
from selftaught.precision import float32

UNKNOWN = -100  # the cluster of an image that was never seen; objectives leave it out
PIECE = 1 << 24  # distances computed at a time


class Clustering(Memory):
    """What one k-means found: its centroids, and the cluster of each image of the data."""

    def __init__(self, count: int, clusters: int, dim: int) -> None:
        super().__init__()
        if clusters < 2:
            raise UserError(f"clusters: {clusters}; use --clusters with 2 or more")
        if clusters > count:
            raise UserError(
                f"{clusters} clusters of {count} images; use --clusters with at most {count}"
            )
        self.centroids = nn.Buffer(torch.zeros(clusters, dim))  # (K, D)
        self.labels = nn.Buffer(torch.full((count,), UNKNOWN))  # (N,)
        self.sizes = nn.Buffer(torch.zeros(clusters, dtype=torch.long))  # (K,) images of each

    @torch.no_grad()
    def remember(
        self, index: Int[Tensor, " n"], centroids: Float[Tensor, "k d"], labels: Int[Tensor, " n"]
    ) -> None:
        """Put in the clusters of the images ``index``; those of all others are unknown."""
        self.centroids.copy_(centroids)
        self.labels.fill_(UNKNOWN)
        self.labels[index] = labels
        self.sizes.copy_(torch.bincount(labels, minlength=len(centroids)))

    def weights(self, labels: Int[Tensor, " b"]) -> Float[Tensor, " b"]:
        """The inverse of the size of each image's cluster, of mean one over the clustered images.

        What uniform sampling over clusters amounts to: DeepCluster (Caron et al. 2018, arXiv
        1807.05520), section 3.3.
        """
        sizes = self.sizes.to(self.centroids.dtype)
        used = (sizes > 0).sum()
        return sizes.sum() / (used * sizes[labels.clamp(min=0)].clamp(min=1))


class Embeddings(Memory):
    """The last embedding of each image in each of several views, and which images have one."""

    def __init__(self, count: int, dim: int, views: int) -> None:
        super().__init__()
        self.banks = nn.ModuleList(Bank(count, dim) for _ in range(views))
        self.seen = nn.Buffer(torch.zeros(count, dtype=torch.bool))  # (N,)

    @torch.no_grad()
    def update(self, index: Int[Tensor, " b"], views: Sequence[Float[Tensor, "b d"]]) -> None:
        """Replace the embeddings of these images, one batch a view."""
        for bank, z in zip(self.banks, views, strict=True):
            bank.update(index, z)  # pyright: ignore
        self.seen[index] = True

    def rows(self, view: int) -> Float[Tensor, "n d"]:
        """The embeddings of all images in one of the views."""
        return self.banks[view].rows  # pyright: ignore


@torch.no_grad()
@float32
def whitened(x: Float[Tensor, "n d"], dim: int) -> Float[Tensor, "n k"]:
    """The first ``dim`` principal components, each of variance one, then rows of length one.

    DeepCluster (Caron et al. 2018, arXiv 1807.05520), section 3.3, "Implementation details", and
    clustering.py of the authors' code. A component that has only rounding for a variance stays
    small.
    """
    x = x - x.mean(dim=0)
    variance, axes = torch.linalg.eigh(x.T @ x / len(x))  # (D,) rising, (D, D)
    variance, axes = variance[-dim:].flip(0), axes[:, -dim:].flip(1)
    rounding = torch.finfo(x.dtype).eps * x.shape[1] * variance[0]
    least = rounding.clamp(min=torch.finfo(x.dtype).tiny)
    return F.normalize(x @ axes / variance.clamp(min=least).sqrt(), dim=1)


def drawn(x: Float[Tensor, "n d"], count: int) -> Float[Tensor, "k d"]:
    """``count`` rows of x at random, none twice: the centroids that k-means begins with."""
    if count > len(x):
        raise UserError(
            f"{count} clusters of {len(x)} images that can be read; use fewer --clusters"
        )
    return x[torch.randperm(len(x))[:count].to(x.device)]


@torch.no_grad()
@float32
def kmeans(
    x: Float[Tensor, "n d"], centroids: Float[Tensor, "k d"], iterations: int
) -> tuple[Float[Tensor, "k d"], Int[Tensor, " n"]]:
    """Lloyd's k-means from given centroids: the last centroids, and the cluster of each row.

    DeepCluster (Caron et al. 2018, arXiv 1807.05520), equation 1. Empty clusters are filled after
    each update (`refilled`) and after the last assignment, so none is left empty; x needs as many
    rows as there are clusters.
    """
    assert len(centroids) <= len(x)
    for _ in range(iterations):
        labels = nearest(x, centroids)
        centroids = means(x, labels, centroids)
        centroids, _ = refilled(x, centroids, labels)
    centroids, labels = refilled(x, centroids, nearest(x, centroids))
    return _agreed(centroids), _agreed(labels)


@torch.no_grad()
@float32
def spherical_kmeans(
    x: Float[Tensor, "n d"], centroids: Float[Tensor, "k d"], iterations: int
) -> tuple[Float[Tensor, "k d"], Int[Tensor, " n"]]:
    """k-means by cosine of rows of length one, with unit centroids; an empty cluster keeps its own.

    DeepCluster-v2 (Caron et al. 2020, arXiv 2006.09882, appendix, and main_deepclusterv2.py of the
    authors' code).
    """
    for _ in range(iterations):
        centroids = F.normalize(means(x, nearest(x, centroids), centroids), dim=1)
    return _agreed(centroids), _agreed(nearest(x, centroids))


def nearest(x: Float[Tensor, "n d"], centroids: Float[Tensor, "k d"]) -> Int[Tensor, " n"]:
    """The centroid at the smallest distance from each row; of equals the first."""
    half = centroids.square().sum(dim=1) / 2  # x c - c c / 2 is largest where (x - c)^2 is smallest
    whole = torch.compiler.is_exporting()  # a graph for any number of rows cannot count pieces
    parts = [x] if whole else x.split(max(1, PIECE // len(centroids)))
    return torch.cat([(part @ centroids.T - half).argmax(dim=1) for part in parts])


def means(
    x: Float[Tensor, "n d"], labels: Int[Tensor, " n"], centroids: Float[Tensor, "k d"]
) -> Float[Tensor, "k d"]:
    """The mean row of each cluster; the given centroid where it has none."""
    sizes = torch.bincount(labels, minlength=len(centroids))[:, None]  # (K, 1)
    sums = torch.zeros_like(centroids).index_add_(0, labels, x)
    return torch.where(sizes > 0, sums / sizes.clamp(min=1), centroids)


def refilled(
    x: Float[Tensor, "n d"], centroids: Float[Tensor, "k d"], labels: Int[Tensor, " n"]
) -> tuple[Float[Tensor, "k d"], Int[Tensor, " n"]]:
    """Give each empty cluster a part of another: the new centroids and clusters.

    DeepCluster (Caron et al. 2018, arXiv 1807.05520), section 3.3, "Empty clusters": the centroid
    of a non-empty cluster taken at random, with a small random perturbation, is the new centroid,
    and that cluster's rows are shared between the two. Where that would leave one of them without a
    row, it gets the row that is nearest to going there.
    """
    centroids, labels = centroids.clone(), labels.clone()
    sizes = torch.bincount(labels, minlength=len(centroids))
    for empty in (sizes == 0).nonzero().flatten().tolist():
        chosen = donor(sizes)
        members = (labels == chosen).nonzero().flatten()
        old, new = centroids[chosen], perturbed(centroids[chosen])
        gain = (x[members] - old).square().sum(dim=1) - (x[members] - new).square().sum(dim=1)
        leaves, order = gain > 0, gain.argsort()
        leaves[order[-1]], leaves[order[0]] = True, False
        labels[members[leaves]] = empty
        centroids[empty] = new
        sizes[empty] = leaves.sum()
        sizes[chosen] -= sizes[empty]
    return centroids, labels


def donor(sizes: Int[Tensor, " k"]) -> int:
    """A cluster to split at random, as faiss does, by its size less one: never one of a single row.

    The paper leaves open with what probability.
    """
    return int(torch.multinomial((sizes - 1).clamp(min=0).double().cpu(), 1))


def perturbed(centroid: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
    """A centroid beside the given one: each component changed by about one part in a thousand."""
    return centroid * (1 + torch.randn(centroid.shape).to(centroid) / 1024)


def _agreed(x: Tensor) -> Tensor:
    """Process 0's, in case rounding has made processes differ."""
    return dist.gather(x)[: len(x)]
