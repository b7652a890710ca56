"""Slow float64 references of objectives by self-distillation, from the papers.

SimSiam, DINO, iBOT, DINOv2, data2vec and I-JEPA. Where a paper leaves a choice open, the authors'
code decides: facebookresearch/simsiam, dino, dinov2, fairseq (examples/data2vec), data2vec_vision,
ijepa, and bytedance/ibot. Teachers and targets never carry a gradient.
"""

import math
from collections.abc import Sequence

import numpy as np

from references.clusters import log_softmax, sinkhorn
from references.contrastive import unit

Array = np.ndarray


def negative_cosine(p: Array, z: Array) -> float:
    """The mean over the batch of -cos(p, z), rows of `p` and `z` (B, D). SimSiam, equation 1."""
    pairs = zip(p.astype(np.float64), z.astype(np.float64), strict=True)
    return float(np.mean([-(unit(prediction) @ unit(target)) for prediction, target in pairs]))


def simsiam_loss(p1: Array, p2: Array, z1: Array, z2: Array) -> float:
    """SimSiam, arXiv 2011.10566, equation 2 and Algorithm 1: D(p1, z2) / 2 + D(p2, z1) / 2.

    All (B, D): predictions p and projections z of two views; z is constant to the gradient. From -1
    to 1. BYOL's symmetric loss, the sum of two squared distances, is 4 + 4 times this.
    """
    return negative_cosine(p1, z2) / 2 + negative_cosine(p2, z1) / 2


def dino_targets(teacher: Array, center: Array, temperature: float) -> Array:
    """softmax((t - C) / temperature) over the last axis of `teacher` (..., K), `center` (K,).

    DINO, arXiv 2104.14294, Algorithm 1. `center` is the one *before* this batch's update: the code
    calls `update_center` after the loss. iBOT does the same to patches with a center and a
    temperature of their own.
    """
    rows = teacher.astype(np.float64).reshape(-1, teacher.shape[-1])
    targets = [np.exp(log_softmax((row - center) / temperature)) for row in rows]
    return np.array(targets).reshape(teacher.shape)


def dino_loss(student: Array, targets: Array, temperature: float = 0.1) -> float:
    """The mean cross-entropy of `student` scores (V, B, K) to `targets` (T, B, K), over view pairs.

    DINO, arXiv 2104.14294, equation 3 and Algorithm 1: -sum over k of target_k log
    softmax(student / temperature)_k, for every teacher view t and every student view v except
    v = t (the first T views of the student are the teacher's). The paper *sums* over pairs in
    equation 3, Algorithm 1 takes the mean of its two; the code (DINOLoss) averages: over the batch,
    then over the T (V - 1) pairs.

    With Sinkhorn targets it is DINOv2's too, whose code divides the sum by 2 + 2 L for L local
    crops: the same, except that with L = 0 it divides by 2 + max(2 L, 1) = 3, so that the official
    loss *without* local crops is two thirds of this one.
    """
    pairs = []
    for t in range(len(targets)):
        for v in range(len(student)):
            if v == t:
                continue
            losses = []
            for target, row in zip(targets[t], student[v].astype(np.float64), strict=True):
                losses.append(-np.sum(target * log_softmax(row / temperature)))
            pairs.append(np.mean(losses))
    return float(np.mean(pairs))


def update_center(center: Array, teacher: Array, momentum: float = 0.9) -> Array:
    """The center (K,) after a batch: m C + (1 - m) mean of the raw `teacher` scores (..., K).

    DINO, arXiv 2104.14294, equation 4 and Algorithm 1: the mean is over the batch *and* both
    teacher views, of scores before centring and temperature. It starts at 0 in the code. For iBOT's
    patches the mean is over *all* patches, masked or not; DINOv2's code, when it centres instead of
    using Sinkhorn-Knopp, gives it the masked patches alone.
    """
    rows = teacher.astype(np.float64).reshape(-1, teacher.shape[-1])
    return momentum * center + (1 - momentum) * sum(rows) / len(rows)


def teacher_temperature(
    epoch: int, start: float, end: float, warmup_epochs: int, first_epoch: int = 0
) -> float:
    """The teacher's temperature in `epoch` (from 0): linear from `start` to `end`, then `end`.

    DINO, arXiv 2104.14294, section 3 (0.04 to 0.07 over 30 epochs), as the code's linspace: both
    ends belong to the warm-up, so `end` is reached in epoch `warmup_epochs` - 1, and a warm-up of
    one epoch has `start` in it. Constant within an epoch (DINOv2's code applies the same over
    iterations). `first_epoch`: iBOT's patch temperature waits at `start` until masked prediction
    begins.
    """
    passed = epoch - first_epoch
    if passed >= warmup_epochs:
        return end
    if passed <= 0:
        return start
    return start + (end - start) * passed / (warmup_epochs - 1)


def cosine_momentum(step: int, total: int, base: float = 0.996, final: float = 1.0) -> float:
    """The teacher's momentum at `step` of `total`: final + (base - final) (1 + cos(pi k / K)) / 2.

    DINO, arXiv 2104.14294, section 3 (0.996 to 1), as `cosine_scheduler` of the code, by iteration:
    the last one, K - 1, is just short of `final`.
    """
    angle = math.pi * min(step, total) / total
    return final + (base - final) * (1 + math.cos(angle)) / 2


def patch_loss(student: Array, targets: Array, mask: Array, temperature: float = 0.1) -> float:
    """iBOT's masked patches: `student` scores, `targets` (G, B, N, K), boolean `mask` (G, B, N).

    arXiv 2111.07832, equation 2 (there a *sum* over masked patches), averaged as in the authors'
    iBOTLoss: for each image of each of G global views the mean cross-entropy over its masked
    patches, between student and teacher *of the same view*; then the mean over images and views. An
    image without a masked patch counts as 0 *in* the mean (the divisor is the greater of 1 and the
    number masked). DINOv2's code (forward_masked) gives the same number.
    """
    images = []
    for g in range(len(student)):
        for b in range(len(student[g])):
            losses = []
            for n in range(len(student[g, b])):
                if mask[g, b, n]:
                    row = student[g, b, n].astype(np.float64) / temperature
                    losses.append(-np.sum(targets[g, b, n] * log_softmax(row)))
            images.append(sum(losses) / max(len(losses), 1))
    return float(np.mean(images))


def ibot_loss(
    student_cls: Array,
    student_patches: Array,
    teacher_cls: Array,
    teacher_patches: Array,
    mask: Array,
    centers: tuple[Array, Array],
    temperatures: tuple[float, float],
    student_temperature: float = 0.1,
    weights: tuple[float, float] = (1.0, 1.0),
) -> float:
    """iBOT, arXiv 2111.07832, section 3.2: [CLS] distillation plus masked patches, weights 1, 1.

    `student_cls` (V, B, K) of all views, the G global ones first and *masked*; `student_patches`
    (G, B, N, P); `teacher_cls` (G, B, K) and `teacher_patches` (G, B, N, P) of the same global
    views, unmasked. `centers` and teacher `temperatures`: of [CLS], of patches.
    """
    cls_targets = dino_targets(teacher_cls, centers[0], temperatures[0])
    patch_targets = dino_targets(teacher_patches, centers[1], temperatures[1])
    cls = dino_loss(student_cls, cls_targets, student_temperature)
    patches = patch_loss(student_patches, patch_targets, mask, student_temperature)
    return weights[0] * cls + weights[1] * patches


def koleo_loss(features: Array, epsilon: float = 1e-8) -> float:
    """KoLeo: -mean over the batch of the log of the distance to the nearest other row, (B, D).

    DINOv2, arXiv 2304.07193, section 4 (from Sablayrolles et al., arXiv 1806.03198): rows are
    divided by their length, d = the least distance to another row, loss = -mean log d. The code
    adds `epsilon` twice: to every component of the difference (torch's PairwiseDistance) and to the
    distance in the logarithm. It takes the backbone's [CLS] (before the head) of *one* global view
    at a time (views of one image must not repel), *sums* over the two views, and has weight 0.1.

    The nearest row is that of largest product. The code marks the row itself by a product of -1,
    so opposite rows can there be their own nearest neighbours: with B = 2 only. Not followed here.
    """
    z = [unit(row) for row in features.astype(np.float64)]
    losses = []
    for i in range(len(z)):
        others = [j for j in range(len(z)) if j != i]
        nearest = max(others, key=lambda j: z[i] @ z[j])
        distance = np.sqrt(np.sum((z[i] - z[nearest] + epsilon) ** 2))
        losses.append(-np.log(distance + epsilon))
    return float(np.mean(losses))


def sinkhorn_targets(teacher: Array, temperature: float, iterations: int = 3) -> Array:
    """DINOv2's targets by Sinkhorn-Knopp of `teacher` scores (..., K), instead of a center.

    arXiv 2304.07193, section 4 (after arXiv 2210.07277): `clusters.sinkhorn` with epsilon = the
    teacher's temperature (0.04 to 0.07), 3 iterations, rows sum to 1. The samples of one call are
    *all* rows given: in the code the [CLS] of both global views together (SwAV: each view for
    itself), and the masked patches, and only those, of all images and views together.
    """
    rows = teacher.reshape(-1, teacher.shape[-1])
    return sinkhorn(rows, temperature, iterations).reshape(teacher.shape)


def standardize(values: Array, epsilon: float = 1e-5) -> Array:
    """(x - mean) / sqrt(variance + epsilon) of one vector, the variance divided by its length."""
    mean = sum(values) / len(values)
    variance = sum((values - mean) ** 2) / len(values)
    return (values - mean) / math.sqrt(variance + epsilon)


def layer_norm(tokens: Array, epsilon: float = 1e-5) -> Array:
    """Every token of `tokens` (B, N, D) standardised over its D features, without weights."""
    return np.array([[standardize(token, epsilon) for token in image] for image in tokens])


def instance_norm(tokens: Array, epsilon: float = 1e-5) -> Array:
    """Every feature of each sample of (B, N, D) standardised over its N tokens, without weights."""
    return np.array([[standardize(f, epsilon) for f in image.T] for image in tokens]).swapaxes(1, 2)


NORMS = {"layer": layer_norm, "instance": instance_norm, "none": lambda tokens: tokens}


def data2vec_targets(
    blocks: Sequence[Array], top: int, block_norm: str = "layer", final_norm: str = "none"
) -> Array:
    """The targets (B, N, D): the mean of the teacher's last `top` `blocks`, each (B, N, D).

    data2vec, arXiv 2202.03555, section 3.3. Each block's output is first normalised by
    `block_norm`, then the mean by `final_norm`: "layer", "instance" or "none", all without weights,
    epsilon 1e-5. The authors' settings (`top` of 12 blocks; block, final):

    - images, data2vec_vision README: 6; layer, layer;
    - text, config/text/pretraining/base.yaml: 10; layer, none;
    - speech, config/audio/pretraining/base_librispeech.yaml: 8; instance, none;
    - 2.0 (2212.07525), config/v2/base_*: images 10 of 10; instance, layer; text 12 and speech 8;
      instance, none.

    Class and other extra tokens are taken off before the normalisation in data2vec_vision and 2.0.

    What a "block's output" is differs too: the end of the block for images in 1.0, and the output
    of the feed-forward part before its residual sum for text, speech and 2.0.
    """
    normalised = [NORMS[block_norm](block.astype(np.float64)) for block in blocks[-top:]]
    return NORMS[final_norm](sum(normalised) / len(normalised))


def smooth_l1(error: float, beta: float) -> float:
    """error^2 / (2 beta) up to beta, |error| - beta / 2 beyond: 2202.03555, equation 2."""
    return error**2 / (2 * beta) if abs(error) <= beta else abs(error) - beta / 2


def data2vec_loss(
    prediction: Array,
    targets: Array,
    mask: Array,
    beta: float | None = None,
    over_features: str = "mean",
) -> float:
    """The regression of `targets` by `prediction` (B, N, D) where `mask` (B, N) is true.

    data2vec, arXiv 2202.03555, equation 2: `smooth_l1` with `beta`; with None the squared error
    (error^2, no half; the code's loss_beta = 0), which is 2.0's (2212.07525) and speech's. The mean
    is over all masked positions of the batch alike (not image by image), and over features as
    `over_features` says: "mean" (data2vec_vision), "sum" (fairseq with loss_scale 1: text), or
    "root", the sum / sqrt(D) (fairseq's default: speech, 2.0's images and speech). For 2.0, B
    counts every mask of every sample, its targets repeated.
    """
    losses = []
    for b in range(len(prediction)):
        for n in range(len(prediction[b])):
            if mask[b, n]:
                errors = prediction[b, n].astype(np.float64) - targets[b, n]
                terms = [e**2 if beta is None else smooth_l1(e, beta) for e in errors]
                divisor = {"mean": len(terms), "sum": 1, "root": math.sqrt(len(terms))}
                losses.append(sum(terms) / divisor[over_features])
    return float(np.mean(losses))


def linear_momentum(update: int, start: float, end: float, updates: int) -> float:
    """The teacher's momentum: linear from `start` at update 0 to `end` at `updates`, then `end`.

    data2vec, arXiv 2202.03555, section 3.3 (tau_0, tau_e, tau_n), as fairseq's get_annealed_rate.
    """
    return end if update >= updates else start + (end - start) * update / updates


def ijepa_loss(
    predictions: Sequence[Array],
    teacher: Array,
    blocks: Sequence[Array],
    distance: str = "smooth_l1",
    normalize: bool = True,
) -> float:
    """I-JEPA: the mean over M target blocks of the distance of predicted to target patches.

    `predictions`: M arrays (B, L_m, D); `teacher` (B, N, D), the target encoder's output for the
    *whole* image; `blocks`: M integer arrays (B, L_m), the patches of the block, in the order of
    the predictions. arXiv 2301.08243, section 3, "loss". With `normalize` the targets are
    layer-normed over features, without weights, epsilon 1e-5, *before* they are gathered
    (src/train.py; the paper does not mention it). `distance`:

    - "smooth_l1" with beta 1, the mean over patches and features: src/train.py;
    - "l2", the squared error, the same mean;
    - "paper", the squared error *summed* over the block's patches and features, as printed.

    Images are averaged. The code cuts all blocks of a batch to one length L, and takes the mean
    over everything: the same number.
    """
    targets = teacher.astype(np.float64)
    if normalize:
        targets = layer_norm(targets)
    losses = []
    for prediction, indices in zip(predictions, blocks, strict=True):
        images = []
        for b in range(len(prediction)):
            terms = []
            for row, index in zip(prediction[b].astype(np.float64), indices[b], strict=True):
                for error in row - targets[b, index]:
                    terms.append(smooth_l1(error, 1.0) if distance == "smooth_l1" else error**2)
            images.append(sum(terms) if distance == "paper" else sum(terms) / len(terms))
        losses.append(np.mean(images))
    return float(np.mean(losses))


def ijepa_momentum(step: int, total: int, start: float = 0.996, end: float = 1.0) -> float:
    """The target encoder's momentum at `step` (from 0) of `total`: linear, arXiv 2301.08243.

    Appendix A; in src/train.py `total` is iterations times epochs times ipe_scale. The first update
    uses `start` exactly; the last one, total - 1, is one step short of `end`.
    """
    return linear_momentum(step, start, end, total)
