"""DeepCluster-v2: predict an image's cluster among the embeddings of the epoch before."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from selftaught import dist
from selftaught.errors import UserError, above_zero
from selftaught.method import Method, ViewBatch
from selftaught.nn.base import Encoder, encoded
from selftaught.nn.clusters import Clustering, Embeddings, drawn, spherical_kmeans
from selftaught.nn.heads import mlp
from selftaught.objectives.clusters import centroid_prediction

LARGE = 2  # views whose embeddings are remembered and clustered: the first ones


class DeepClusterV2(Method):
    """DeepCluster-v2, the improved DeepCluster of the paper on SwAV.

    Caron et al. 2020, https://arxiv.org/abs/2006.09882, appendix, and the authors'
    main_deepclusterv2.py. At the start of each epoch the last embeddings of all images are
    clustered by spherical k-means, once for each of several ``heads``, the heads taking the two
    large views in turn. The centroids are the classifier until the next epoch and are not trained;
    every view, large or small, predicts its image's clusters. Embeddings of the large views are
    remembered as they are made.

    Deviations: the first embeddings are those of plain views in eval mode, where the authors make a
    pass over random views in training mode; the start of a clustering is drawn from all images, not
    from those of one process; an image that an epoch left out keeps its older embedding.

    Needs a `survey` at the start of each epoch. Raises UserError for settings outside their range.
    """

    knows_samples = True

    def __init__(
        self,
        encoder: Encoder,
        *,
        count: int,
        hidden: int = 2048,
        dim: int = 128,
        clusters: int = 3000,
        heads: int = 3,
        temperature: float = 0.1,
        iterations: int = 10,
    ) -> None:
        super().__init__()
        above_zero(temperature=temperature)
        if heads < 1 or iterations < 0:
            raise UserError(
                f"{heads} heads and {iterations} iterations; use --heads from 1 and --iterations "
                "from 0"
            )
        self.encoder = encoder
        self.projector = mlp(encoder.dim, hidden, dim)
        self.memory = Embeddings(count, dim, LARGE)
        self.clusterings = nn.ModuleList(Clustering(count, clusters, dim) for _ in range(heads))
        self.temperature, self.iterations = temperature, iterations

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``clusters``, the mean over heads of the prediction of the images' clusters."""
        every = self.projector(torch.cat(encoded(self.encoder, batch.views)))  # (V B, D)
        z = every.chunk(len(batch.views))  # (B, D) each
        index = batch.index.to(every.device)
        self.seen = dist.gather(index), [dist.gather(v.detach()) for v in z[:LARGE]]
        terms = [
            centroid_prediction(
                every, c.centroids, c.labels[index].repeat(len(z)), self.temperature
            )
            for c in self._clusterings()
        ]
        return {"clusters": torch.stack(terms).mean()}

    def after_step(self) -> None:
        """Remember the embeddings of the large views."""
        self.memory.update(*self.seen)

    def chance(self, x: Tensor, count: int) -> dict[str, float]:
        """The logarithm of the number of clusters."""
        return {"clusters": math.log(len(self._clusterings()[0].centroids))}

    def survey(self, whole: Iterable[ViewBatch]) -> None:
        """Cluster what is remembered; the images are looked at only if nothing is, at first."""
        if not self.memory.seen.any():
            for batch in whole:
                z = self.projector(self.encoder(batch.views[0]))
                self.memory.update(batch.index.to(z.device), [z] * LARGE)
        known = self.memory.seen.nonzero().flatten()
        for head, clustering in enumerate(self._clusterings()):
            x = self.memory.rows(head % LARGE)[known]
            start = drawn(x, len(clustering.centroids))
            clustering.remember(known, *spherical_kmeans(x, start, self.iterations))

    def _clusterings(self) -> list[Clustering]:
        return list(self.clusterings)  # pyright: ignore
