"""Recipes that predict which cluster an image belongs to."""

from selftaught.errors import UserError
from selftaught.methods.deepcluster import DeepCluster
from selftaught.methods.deepcluster_v2 import DeepClusterV2
from selftaught.methods.swav import SwAV
from selftaught.nn.encoders import build
from selftaught.nn.filtered import Sobel
from selftaught.recipes.run import Pixels, Run
from selftaught.recipes.shared import Look, MultiCrop, Training


def swav(
    data: Pixels,
    *,
    encoder: str = "resnet-nano",
    prototypes: int = 256,
    temperature: float = 0.1,
    epsilon: float = 0.05,
    iterations: int = 3,
    freeze: float = 0.01,
    hidden: int = 512,
    dim: int = 128,
    queue: int = 0,
    queue_start: float = 0.1,
    look: MultiCrop = MultiCrop(),
    training: Training = Training(),
) -> Run:
    """SwAV (Caron et al. 2020, arXiv 2006.09882): predict one view's cluster code from another.

    Args:
        data: what the images look like.
        encoder: resnet-nano, resnet-pico, vit-nano or any timm name.
        prototypes: clusters that the batch and the queue are shared out to, at most as many.
        temperature: the smaller, the surer of one cluster a view has to be.
        epsilon: the larger, the more evenly a code is spread over the prototypes.
        iterations: of Sinkhorn-Knopp, which makes the prototypes equally used.
        freeze: share of the run at whose beginning the prototypes stay as they are.
        hidden: width of the projection head.
        dim: width of what the prototypes are compared with.
        queue: past embeddings that help to compute codes where batches are small; 0 is none.
        queue_start: share of the run after which the queue is filled.
    """
    if queue > data.count:
        raise UserError(
            f"a queue of {queue} of {data.count} images; use --queue with at most {data.count}"
        )
    if prototypes > training.batch_size + queue:
        raise UserError(
            f"{training.batch_size + queue} samples in batch and queue for {prototypes} "
            "prototypes; use fewer --prototypes, or a larger --batch-size or --queue"
        )
    method = SwAV(
        build(encoder, channels=data.channels, size=data.size),
        hidden=hidden,
        dim=dim,
        prototypes=prototypes,
        temperature=temperature,
        epsilon=epsilon,
        iterations=iterations,
        freeze=freeze,
        queue=queue,
        queue_start=queue_start,
    )
    return training.run(method, look.views(data, method.encoder))


def deepcluster(
    data: Pixels,
    *,
    encoder: str = "resnet-nano",
    clusters: int = 100,
    components: int = 64,
    iterations: int = 20,
    sobel: bool = False,
    look: Look = Look(),
    training: Training = Training(),
) -> Run:
    """DeepCluster (Caron et al. 2018, arXiv 1807.05520): predict clusters of the features.

    Args:
        data: what the images look like.
        encoder: resnet-nano, resnet-pico, vit-nano or any timm name.
        clusters: of all images, found anew at the start of each epoch.
        components: principal components of the features that are clustered.
        iterations: of k-means.
        sobel: show the encoder grey edges instead of the image.
    """
    net = build(encoder, channels=2 if sobel else data.channels, size=data.size)
    method = DeepCluster(
        Sobel(net) if sobel else net,
        count=data.count,
        clusters=clusters,
        components=components,
        iterations=iterations,
    )
    views = look.views(data, method.encoder, count=1)
    return training.run(method, views, survey_every=epoch(data, training))


def deepcluster_v2(
    data: Pixels,
    *,
    encoder: str = "resnet-nano",
    clusters: int = 256,
    heads: int = 3,
    temperature: float = 0.1,
    iterations: int = 10,
    hidden: int = 512,
    dim: int = 128,
    look: MultiCrop = MultiCrop(),
    training: Training = Training(),
) -> Run:
    """DeepCluster-v2 (Caron et al. 2020, arXiv 2006.09882): predict last epoch's clusters.

    Args:
        data: what the images look like.
        encoder: resnet-nano, resnet-pico, vit-nano or any timm name.
        clusters: of all images, found anew at the start of each epoch.
        heads: clusterings, from different starts, that are predicted side by side.
        temperature: the smaller, the surer of one cluster a view has to be.
        iterations: of spherical k-means.
        hidden: width of the projection head.
        dim: width of what is clustered.
    """
    method = DeepClusterV2(
        build(encoder, channels=data.channels, size=data.size),
        count=data.count,
        hidden=hidden,
        dim=dim,
        clusters=clusters,
        heads=heads,
        temperature=temperature,
        iterations=iterations,
    )
    views = look.views(data, method.encoder)
    return training.run(method, views, survey_every=epoch(data, training))


def epoch(data: Pixels, training: Training) -> int:
    """Steps of one pass over the data."""
    return max(1, data.count // training.batch_size)
