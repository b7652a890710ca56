"""Slow float64 references of objectives by clusters: SwAV and DeepCluster, from the papers.

Where a paper leaves a choice open, the authors' code decides: facebookresearch/swav (main_swav.py,
main_deepclusterv2.py) and facebookresearch/deepcluster (clustering.py, util.py).
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from references.contrastive import unit

Array = np.ndarray


def log_softmax(row: Array) -> Array:
    """The logarithm of the softmax of one vector."""
    return row - np.logaddexp.reduce(row)


def sinkhorn(scores: Array, epsilon: float = 0.05, iterations: int = 3) -> Array:
    """The codes (B, K) of `scores` (B, K): B samples, each row summing to 1, K equal prototypes.

    SwAV, arXiv 2006.09882, equations 3 to 5 and the listing of appendix A, in logarithms. The order
    of the authors' code: exp(scores / epsilon), divided by the sum of the whole matrix; then, in
    each iteration, *first* every prototype is scaled to a total of 1 / K, *then* every sample to a
    total of 1 / B; at last all is multiplied by B. So the rows sum to 1 exactly, while the
    columns sum to B / K only in the limit. At least one iteration (the paper's listing would give
    the softmax with none, the authors' code an unnormalised matrix).
    """
    assert iterations >= 1, iterations
    log_q = scores.astype(np.float64) / epsilon
    samples, prototypes = log_q.shape
    log_q = log_q - np.logaddexp.reduce(log_q.ravel())
    for _ in range(iterations):
        for k in range(prototypes):
            log_q[:, k] -= np.logaddexp.reduce(log_q[:, k]) + math.log(prototypes)
        for b in range(samples):
            log_q[b] -= np.logaddexp.reduce(log_q[b]) + math.log(samples)
    return np.exp(log_q + math.log(samples))


def swav_codes(
    scores: Array, epsilon: float = 0.05, iterations: int = 3, queue: Array | None = None
) -> Array:
    """The codes (B, K) of a batch's `scores` (B, K), with the scores of a `queue` (Q, K) if any.

    SwAV, arXiv 2006.09882, section 3.1, "working with small batches": the features of earlier
    batches, times the *present* prototypes, join the batch in Sinkhorn-Knopp; only the batch's own
    codes are kept. The code puts the queue first and takes the last B rows; codes do not depend on
    the order. The queue must not hold the batch itself: it is filled after it was read.
    """
    if queue is None:
        return sinkhorn(scores, epsilon, iterations)
    return sinkhorn(np.concatenate([queue, scores]), epsilon, iterations)[len(queue) :]


def swav_loss(
    scores: Array,
    temperature: float = 0.1,
    epsilon: float = 0.05,
    iterations: int = 3,
    assign: Sequence[int] = (0, 1),
    queue: Array | None = None,
) -> float:
    """SwAV's swapped prediction of V views, `scores` (V, B, K): features times prototypes.

    arXiv 2006.09882, equations 1 and 2 and the multi-crop loss of section 3.2. Each view in
    `assign` gives codes (of its own B scores alone, with its own `queue[i]` of (A, Q, K), if any);
    all *other* views predict them: -sum over k of q_k log softmax(scores / temperature)_k. The
    paper *sums* over pairs of views; this is the mean, as in the authors' code: over the batch,
    then over the V - 1 predicting views, then over the views in `assign`. All these groups have one
    size, so it is the plain mean over all (code, prediction) pairs. Codes carry no gradient.
    """
    scores = scores.astype(np.float64)
    losses = []
    for i, source in enumerate(assign):
        own_queue = None if queue is None else queue[i]
        codes = swav_codes(scores[source], epsilon, iterations, own_queue)
        for view in range(len(scores)):
            if view == source:
                continue
            for code, row in zip(codes, scores[view], strict=True):
                losses.append(-np.sum(code * log_softmax(row / temperature)))
    return float(np.mean(losses))


def nearest(x: Array, centroids: Array) -> Array:
    """For each point of `x` (N, D) its centroid of smallest squared distance, (N,) integers.

    Of equally near centroids the first is taken.
    """
    assignment = []
    for point in x.astype(np.float64):
        distances = [np.sum((point - centroid) ** 2) for centroid in centroids]
        assignment.append(int(np.argmin(distances)))
    return np.array(assignment)


def reseed_empty(
    x: Array,
    centroids: Array,
    assignment: Array,
    donor: Callable[[Array], int],
    perturb: Callable[[Array], Array],
) -> tuple[Array, Array]:
    """Give every empty cluster a new centroid; returns new `centroids` (K, D), `assignment` (N,).

    DeepCluster, arXiv 1807.05520, section 3.3: a non-empty cluster is chosen at random, its
    centroid with a small random perturbation is the new centroid, and the points of that cluster,
    and no others, are reassigned to the two. Empty clusters are treated in the order of their
    number; `donor(sizes)` picks the cluster from the sizes (K,) of that moment; `perturb(centroid)`
    gives the new centroid; a point equally near to both stays. The centroid of the donor stays.

    The authors' code leaves this to faiss, which differs: it picks a cluster with a chance
    proportional to its size - 1, multiplies alternating components of the new centroid by
    1 + 1/1024 and 1 - 1/1024 and those of the *donor* by the opposite, and reassigns points only
    in the next iteration.
    """
    centroids, assignment = centroids.astype(np.float64), assignment.copy()
    count = len(centroids)
    for empty in range(count):
        sizes = np.bincount(assignment, minlength=count)
        if sizes[empty] > 0:
            continue
        chosen = donor(sizes)
        assert sizes[chosen] > 0, f"the donor {chosen} is itself empty"
        centroids[empty] = perturb(centroids[chosen].copy())
        for n in range(len(x)):
            if assignment[n] == chosen:
                stay = np.sum((x[n] - centroids[chosen]) ** 2)
                leave = np.sum((x[n] - centroids[empty]) ** 2)
                if leave < stay:
                    assignment[n] = empty
    return centroids, assignment


def kmeans(
    x: Array,
    centroids: Array,
    iterations: int,
    donor: Callable[[Array], int] | None = None,
    perturb: Callable[[Array], Array] | None = None,
) -> tuple[Array, Array]:
    """Lloyd's k-means of `x` (N, D) from given `centroids` (K, D): final centroids, assignment.

    DeepCluster, arXiv 1807.05520, equation 1. One iteration: every point goes to its nearest
    centroid; every non-empty cluster's centroid becomes the mean of its points; empty clusters are
    re-seeded from these means (`reseed_empty`: faiss too splits after the update). After the last
    iteration all points are assigned once more, so that the assignment belongs to the centroids
    returned. Without `donor` and `perturb` an empty cluster keeps its centroid.
    """
    centroids = centroids.astype(np.float64)
    x = x.astype(np.float64)
    for _ in range(iterations):
        assignment = nearest(x, centroids)
        for k in range(len(centroids)):
            members = [x[n] for n in range(len(x)) if assignment[n] == k]
            if members:
                centroids[k] = sum(members) / len(members)
        if donor is not None and perturb is not None:
            centroids, _ = reseed_empty(x, centroids, assignment, donor, perturb)
    return centroids, nearest(x, centroids)


def most_similar(x: Array, centroids: Array) -> Array:
    """For each row of `x` (N, D) the centroid of largest cosine, (N,) integers; ties: the first."""
    directions = [unit(centroid) for centroid in centroids.astype(np.float64)]
    assignment = []
    for row in x.astype(np.float64):
        assignment.append(int(np.argmax([unit(row) @ direction for direction in directions])))
    return np.array(assignment)


def spherical_kmeans(x: Array, centroids: Array, iterations: int = 10) -> tuple[Array, Array]:
    """Spherical k-means of `x` (N, D) from `centroids` (K, D): unit centroids, assignment.

    DeepCluster v2, in the appendix of arXiv 2006.09882, after `cluster_memory` of the code:
    features and centroids are of length 1; every feature goes to the centroid of largest product;
    a non-empty cluster's centroid becomes the mean of its unit features, divided by its length; an
    *empty* cluster keeps its centroid (it is not re-seeded, unlike in v1). After the last update
    all are assigned once more. In the code the first centroids are K distinct features drawn at
    random, and `iterations` is 10.
    """
    x = np.array([unit(row) for row in x.astype(np.float64)])
    centroids = np.array([unit(row) for row in centroids.astype(np.float64)])
    for _ in range(iterations):
        assignment = most_similar(x, centroids)
        for k in range(len(centroids)):
            members = [x[n] for n in range(len(x)) if assignment[n] == k]
            if members:
                centroids[k] = unit(sum(members) / len(members))
    return centroids, most_similar(x, centroids)


def pca_whiten(features: Array, dim: int) -> Array:
    """The first `dim` principal components of `features` (N, D), each of variance 1: (N, dim).

    The variance is divided by N; components come by falling variance; the sign of each is free, so
    compare what does not depend on it (products of rows). Refuses a component without variance.
    """
    centred = features.astype(np.float64) - np.mean(features, axis=0, dtype=np.float64)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(centred))
    order = np.argsort(values)[::-1][:dim]
    assert values[order].min() > 1e-10 * values.max(), "fewer independent components than asked for"
    components = [centred @ vectors[:, i] / math.sqrt(values[i]) for i in order]
    return np.stack(components, axis=1)


def deepcluster_features(features: Array, dim: int = 256) -> Array:
    """What DeepCluster clusters: `features` (N, D), PCA to `dim`, whitened, rows of length 1.

    arXiv 1807.05520, section 3.4 (PCA to 256 dimensions, whitening, l2 normalisation), and
    `preprocess_features` of the code. All is over the whole data set; the scale of the whitening
    cannot matter, because of the normalisation that follows it.
    """
    return np.array([unit(row) for row in pca_whiten(features, dim)])


def cluster_weights(assignment: Array) -> Array:
    """The weight of each of N images, proportional to 1 / size of its cluster, of mean 1: (N,).

    DeepCluster, arXiv 1807.05520, section 3.3, "trivial parametrisation": images are sampled
    uniformly over the clusters, which in expectation equals weighting each image's loss by the
    inverse size of its cluster. With C non-empty clusters the weight is N / (C size); its mean over
    the *data set* (not over a batch) is 1, and then the weighted mean of losses over all images is
    exactly the expected loss of an image of a uniformly drawn cluster. The authors' code samples
    (UnifLabelSampler: N // C + 1 images of each non-empty cluster, shuffled, cut to N).
    """
    sizes = {int(k): int(np.sum(assignment == k)) for k in assignment}
    return np.array([len(assignment) / (len(sizes) * sizes[int(k)]) for k in assignment])


def deepcluster_loss(logits: Array, labels: Array, weights: Array) -> float:
    """The weighted cross-entropy of `logits` (B, K), `labels` (B,), `weights` (B,), over B.

    DeepCluster, arXiv 1807.05520, equation 2 with the weights of `cluster_weights`. The sum is
    divided by B, not by the weights of the batch: a weighted mean within the batch (as of a
    cross-entropy with class weights) would not have the right expectation.
    """
    losses = []
    for row, label, weight in zip(logits.astype(np.float64), labels, weights, strict=True):
        losses.append(-weight * log_softmax(row)[label])
    return float(np.mean(losses))


def deepcluster_v2_loss(
    features: Array, centroids: Sequence[Array], assignments: Array, temperature: float = 0.1
) -> float:
    """DeepCluster v2: `features` (V, B, D), one (K_h, D) of `centroids` a head, targets (H, B).

    The appendix of arXiv 2006.09882, after main_deepclusterv2.py: the classifier of head h is its
    matrix of unit centroids, fixed until the next clustering; logits are cosines / temperature. All
    V crops of an image have the image's assignment as target. The mean over crops and images, then
    over heads. A negative target (-100 in the code: an image that was never clustered) is left out
    of its head's mean.
    """
    heads = []
    for head, prototypes in enumerate(centroids):
        losses = []
        for view in features.astype(np.float64):
            for row, target in zip(view, assignments[head], strict=True):
                if target < 0:
                    continue
                logits = [unit(row) @ unit(c) / temperature for c in prototypes.astype(np.float64)]
                losses.append(-log_softmax(np.array(logits))[target])
        heads.append(np.mean(losses))
    return float(np.mean(heads))
