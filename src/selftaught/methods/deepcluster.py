"""DeepCluster: cluster the features of all images, predict the clusters, and again."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from selftaught import dist
from selftaught.errors import UserError
from selftaught.method import Method, ViewBatch
from selftaught.nn.base import Encoder
from selftaught.nn.clusters import Clustering, drawn, kmeans, whitened
from selftaught.objectives.clusters import weighted_prediction


class DeepCluster(Method):
    """Deep Clustering for Unsupervised Learning of Visual Features.

    Caron et al. 2018, https://arxiv.org/abs/1807.05520, equations 1 and 2 and section 3.3. At the
    start of each epoch the features of all images in plain views, whitened and of length one, are
    clustered by k-means, empty clusters filled from others, and a new linear classifier learns to
    tell an image's cluster from a random view of it. Each image's loss is weighted by the inverse
    of the size of its cluster, to which uniform sampling over clusters is equivalent (section 3.3).

    The Sobel filter that takes the colours away is the encoder's (`selftaught.nn.filtered.Sobel`);
    at small scale there are random grey and jitter instead.

    Deviations: the classifier is drawn anew in place and keeps its place in the optimiser, averages
    and all, where the authors give it a new one without momentum. The features are those that an
    encoder exports, after its last ReLU if it has one there; their VGG drops half of its hidden
    units out, timm's none.

    Needs a `survey` at the start of each epoch. Raises UserError for settings outside their range.
    """

    knows_samples = True

    def __init__(
        self,
        encoder: Encoder,
        *,
        count: int,
        clusters: int = 10000,
        components: int = 256,
        iterations: int = 20,
    ) -> None:
        super().__init__()
        most = min(encoder.dim, count - 1)
        if not 1 <= components <= most:
            raise UserError(
                f"{components} components of {encoder.dim} features of {count} images; use "
                f"--components from 1 to {most}"
            )
        if iterations < 0:
            raise UserError(f"{iterations} iterations; use --iterations from 0")
        self.encoder = encoder
        self.clustering = Clustering(count, clusters, components)
        self.classifier = nn.Linear(encoder.dim, clusters)
        self.iterations = iterations
        self._forget()

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """``clusters``, the weighted prediction of the images' clusters."""
        (x,) = batch.views
        scores = self.classifier(self.encoder(x))  # (B, K)
        labels = self.clustering.labels[batch.index.to(scores.device)]  # (B,)
        weights = self.clustering.weights(labels)
        return {"clusters": weighted_prediction(scores, labels, weights)}

    def chance(self, x: Tensor, count: int) -> dict[str, float]:
        """The logarithm of the number of clusters."""
        return {"clusters": math.log(len(self.clustering.centroids))}

    def survey(self, whole: Iterable[ViewBatch]) -> None:
        """Cluster the features of all images, and begin with a new classifier."""
        found = [(batch.index, self.encoder(batch.views[0])) for batch in whole]
        index, features = (torch.cat(parts) for parts in zip(*found, strict=True))
        if not torch.isfinite(features).all():
            raise UserError("features to cluster are not finite; try a lower --lr")
        x = whitened(features, self.clustering.centroids.shape[1])  # (N, components)
        centroids, labels = kmeans(x, drawn(x, len(self.clustering.centroids)), self.iterations)
        self.clustering.remember(index.to(x.device), centroids, labels)
        self._forget()

    @torch.no_grad()
    def _forget(self) -> None:
        """Draw the classifier anew, as the authors' code does."""
        weight = self.classifier.weight
        weight.copy_(dist.agreed(0.01 * torch.randn(weight.shape)))
        self.classifier.bias.zero_()
