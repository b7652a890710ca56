"""Slow float64 references of objectives that discriminate instances, from the papers' equations.

"Mean over N" is a choice made everywhere here: several papers write a sum over the data.
"""

import math

import numpy as np

from references.contrastive import unit

Array = np.ndarray


def units(rows: Array) -> Array:
    """The rows of (N, D) divided by their lengths, in float64."""
    return np.array([unit(row) for row in np.asarray(rows, dtype=np.float64)])


def cross_entropy(scores: list[float] | Array, label: int) -> float:
    """-log of the softmax of `scores` (candidates,) at `label`."""
    return float(np.logaddexp.reduce(scores) - scores[label])


def softmax_cross_entropy(logits: Array, labels: Array) -> float:
    """The mean over rows of -log softmax(logits)[label]: `logits` (B, classes), `labels` (B,).

    Exemplar-CNN, arXiv 1406.6909 (a sum over patches in the paper): the classes are the surrogate
    classes, one a seed patch, and a row is one transformed sample of its patch.
    """
    losses = [cross_entropy(row, label) for row, label in zip(logits, labels, strict=True)]
    return float(np.mean(losses))


# MoCo


def moco_info_nce(queries: Array, keys: Array, queue: Array, temperature: float) -> float:
    """The loss of queries (N, D), their keys (N, D), and negatives `queue` (K, D).

    MoCo, arXiv 1911.05722, equation 1 and Algorithm 1: the mean over queries of the cross-entropy
    over 1 + K candidates, the positive and the whole queue. The keys of *other* images of the batch
    are no candidates: they enter the queue after the loss. All rows are normalised here.
    """
    q, k, negatives = units(queries), units(keys), units(queue)
    losses = []
    for i in range(len(q)):
        scores = [q[i] @ k[i] / temperature]
        scores += [q[i] @ negative / temperature for negative in negatives]
        losses.append(cross_entropy(scores, 0))
    return float(np.mean(losses))


def queue_push(queue: Array, place: int, keys: Array) -> tuple[Array, int]:
    """A copy of the ring buffer `queue` (K, D) with `keys` (N, D) written from row `place` on.

    MoCo, arXiv 1911.05722, Algorithm 1 (enqueue, dequeue): the oldest rows are replaced. The second
    result is the row where the next key goes. The official code needs K to be a multiple of N; here
    writing wraps around, and of more than K keys the last K stay. Nothing is normalised here.
    """
    queue = np.array(queue, dtype=np.float64)
    for key in keys:
        queue[place] = key
        place = (place + 1) % len(queue)
    return queue, place


def moco_v3_contrast(queries: Array, keys: Array, temperature: float) -> float:
    """One direction: queries (N, D) against all N keys (N, D), times 2 * temperature.

    MoCo v3, arXiv 2104.02057, Algorithm 1, function ctr, and `contrastive_loss` of the official
    code: the label of row i is i; the keys of the other images are the negatives, there is no queue
    and no query is a candidate. All rows are normalised here.
    """
    q, k = units(queries), units(keys)
    losses = []
    for i in range(len(q)):
        scores = [q[i] @ key / temperature for key in k]
        losses.append(cross_entropy(scores, i))
    return float(2 * temperature * np.mean(losses))


def moco_v3_loss(q1: Array, q2: Array, k1: Array, k2: Array, temperature: float) -> float:
    """The *sum* (not the mean) of both directions, each against the other view's keys.

    MoCo v3, arXiv 2104.02057, Algorithm 1: ctr(q1, k2) + ctr(q2, k1), all (N, D).
    """
    return moco_v3_contrast(q1, k2, temperature) + moco_v3_contrast(q2, k1, temperature)


# Instance discrimination


def instdisc_softmax(features: Array, bank: Array, index: Array, temperature: float) -> float:
    """The exact non-parametric softmax: features (N, D) of images `index` (N,), bank (n, D).

    InstDisc, arXiv 1805.01978, equations 2 and 3, as a mean over N: the n candidates are the bank's
    entries, the image's own *old* entry among them as the positive. Features are normalised here
    and the bank is used as it is (the paper keeps it at unit length; the official code starts it
    with vectors of about unit length).
    """
    losses = []
    for feature, own in zip(units(features), index, strict=True):
        scores = [entry @ feature / temperature for entry in bank]
        losses.append(cross_entropy(scores, own))
    return float(np.mean(losses))


def instdisc_constant(
    features: Array,
    bank: Array,
    noise: Array,
    temperature: float,
    index: Array | None = None,
) -> float:
    """The normalising constant Z = n * mean of exp(v_j . f / T), from the first batch alone.

    InstDisc, arXiv 1805.01978, equation 8: features f (N, D), bank (n, D), noise (N, m) indices j;
    the mean is over the batch and the m noise samples. The official code (lib/NCEAverage.py) takes
    the mean over m + 1 columns, the first being the image's own entry: give `index` (N,) for that.
    """
    values = []
    for row, feature in enumerate(units(features)):
        drawn = list(noise[row]) if index is None else [index[row], *noise[row]]
        values += [math.exp(bank[j] @ feature / temperature) for j in drawn]
    return float(len(bank) * np.mean(values))


def instdisc_nce(
    features: Array,
    bank: Array,
    index: Array,
    noise: Array,
    temperature: float,
    constant: float,
) -> float:
    """The NCE loss of features f (N, D), bank v (n, D), own entries (N,), noise entries (N, m).

    InstDisc, arXiv 1805.01978, equations 4 to 7 with Z held constant: P(j | f) = exp(v_j . f / T)
    / Z; h(j) = P / (P + m / n), the noise being uniform, P_n = 1 / n. The loss of one image is
    -log h(own) - sum over its m noise samples of log(1 - h(j)): m times an expectation, hence a
    *sum* over noise; the mean is over images. The official code adds 1e-7 to both denominators, to
    keep logarithms finite, and lets a noise sample be the image's own entry; so does this function,
    without the 1e-7.
    """
    n, m = len(bank), len(noise[0])
    losses = []
    for row, feature in enumerate(units(features)):
        own = math.exp(bank[index[row]] @ feature / temperature) / constant
        loss = -math.log(own / (own + m / n))
        for j in noise[row]:
            p = math.exp(bank[j] @ feature / temperature) / constant
            loss -= math.log((m / n) / (p + m / n))  # 1 - h
        losses.append(loss)
    return float(np.mean(losses))


def instdisc_proximal(features: Array, bank: Array, index: Array, weight: float) -> float:
    """`weight` times the mean over N of ||f_i - v_i||^2: features (N, D), v_i the bank's old entry.

    InstDisc, arXiv 1805.01978, equations 9 and 10: the term is added to the loss of the positive,
    once an image (not once a noise sample); f_i = v_i(t) is this visit's feature, normalised here,
    and v_i(t - 1) the bank's entry. The squared distance is a sum over D, without a half. The
    official code (zhirongw/lemniscate.pytorch) holds no such term: its author calls the momentum of
    the bank's update its replacement (issue 11 there). `bank_update` has that momentum.
    """
    distances = []
    for feature, own in zip(units(features), index, strict=True):
        distances.append(np.sum((feature - bank[own]) ** 2))
    return float(weight * np.mean(distances))


def bank_update(bank: Array, index: Array, features: Array, momentum: float = 0.5) -> Array:
    """A copy of the bank (n, D) whose rows `index` (N,) become unit(m * v + (1 - m) * f).

    From the official code of InstDisc (arXiv 1805.01978): momentum m = 0.5 on the *old* entry v,
    f normalised first (here), and the mixture normalised again. The paper's section 3.1 says only
    that f replaces v, which is m = 0. PIRL (arXiv 1912.01991) takes m = 0.5 as well. `index` must
    not repeat.
    """
    assert len(set(map(int, index))) == len(index), index
    bank = np.array(bank, dtype=np.float64)
    for own, feature in zip(index, units(features), strict=True):
        bank[own] = unit(momentum * bank[own] + (1 - momentum) * feature)
    return bank


# PIRL


def pirl_loss(
    image: Array,
    patches: Array,
    bank: Array,
    index: Array,
    negatives: tuple[Array, Array],
    temperature: float,
    constant: float,
    mix: float = 0.5,
) -> float:
    """PIRL as its authors' code (VISSL) computes it: equation 5 over InstDisc's NCE loss.

    `negatives` holds two matrices (N, K), of the patches and of the image: VISSL draws anew for
    each term. It computes `constant` once, from the first term of the first batch (the patches',
    its own entries included: `instdisc_constant` with `index`), adds 1.2e-7 to the denominators
    (left out here), and updates the bank with the *image's* feature after the loss.
    """
    memory = units(bank)
    of_patches = instdisc_nce(patches, memory, index, negatives[0], temperature, constant)
    of_image = instdisc_nce(image, memory, index, negatives[1], temperature, constant)
    return mix * of_patches + (1 - mix) * of_image


# NNCLR


def nearest(z: Array, support: Array) -> Array:
    """For each row of `z` (N, D) the nearest row of `support` (Q, D), both normalised: (N, D).

    NNCLR, arXiv 2104.14548, equation 2: the smallest Euclidean distance between unit vectors,
    which is the largest cosine. A tie goes to the first.
    """
    candidates = units(support)
    found = []
    for row in units(z):
        distances = [np.sum((row - candidate) ** 2) for candidate in candidates]
        found.append(candidates[int(np.argmin(distances))])
    return np.array(found)


def nnclr_direction(z: Array, p_other: Array, support: Array, temperature: float) -> float:
    """The mean over i of -log(exp(NN(z_i) . p_i / T) / sum over k of exp(NN(z_i) . p_k / T)).

    NNCLR, arXiv 2104.14548, equation 3 with the predictor's outputs p of the *other* view in the
    place of z^+, as its Algorithm 1: N candidates, all p of the other view (N, D), label i; the
    neighbour takes the anchor's place, so neither z_i nor the support set is a candidate.
    Everything is normalised here.
    """
    neighbours, p = nearest(z, support), units(p_other)
    losses = []
    for i in range(len(p)):
        scores = [neighbours[i] @ candidate / temperature for candidate in p]
        losses.append(cross_entropy(scores, i))
    return float(np.mean(losses))


def nnclr_loss(
    z1: Array, z2: Array, p1: Array, p2: Array, support: Array, temperature: float
) -> float:
    """Half the sum of both directions: neighbours of z1 against p2, neighbours of z2 against p1.

    NNCLR, arXiv 2104.14548, Algorithm 1. The support set is the one *before* this batch is pushed;
    afterwards z1 alone is pushed (`queue_push`).
    """
    one = nnclr_direction(z1, p2, support, temperature)
    two = nnclr_direction(z2, p1, support, temperature)
    return (one + two) / 2


# CPC


def cpc_score(z: Array, weight: Array, context: Array) -> float:
    """log f_k = z^T W_k c: z (D,), weight (D, E), context (E,). CPC, arXiv 1807.03748, equation 3.

    Nothing is normalised and there is no temperature.
    """
    total = 0.0
    for d in range(len(z)):
        for e in range(len(context)):
            total += float(z[d]) * float(weight[d, e]) * float(context[e])
    return total


def cpc_offset_loss(
    z: Array, context: Array, weight: Array, offset: int, every_row: bool = False
) -> float:
    """The InfoNCE of one offset k = `offset` >= 1.

    CPC, arXiv 1807.03748, equation 4: z (N, R, C, D), context (N, R, C, E), `weight` W_k (D, E).
    The context at (n, row, col), which may depend on the rows up to `row` only, predicts the patch
    k rows below it: its positive is z[n, row + k, col], for all row < R - k. The paper leaves the
    set X open for images. Here:

    - every_row=False: X holds the targets valid for k, z[m, r, c] for all images m (its own too),
      k <= r < R and all columns c: N * (R - k) * C candidates, the same for every context.
    - every_row=True: X holds all N * R * C patches, as the pseudo-code in the appendix of CPC v2
      (arXiv 1905.09272) does.

    In both, the positive is one of the candidates, counted once. The mean is over all N * (R - k) *
    C predictions.
    """
    images, rows, columns, _ = z.shape
    first = 0 if every_row else offset
    candidates = [
        (n, row, column)
        for n in range(images)
        for row in range(first, rows)
        for column in range(columns)
    ]
    losses = []
    for n in range(images):
        for row in range(rows - offset):
            for column in range(columns):
                c = context[n, row, column]
                scores = [cpc_score(z[place], weight, c) for place in candidates]
                positive = candidates.index((n, row + offset, column))
                losses.append(cross_entropy(scores, positive))
    return float(np.mean(losses))


def cpc_loss(z: Array, context: Array, weights: dict[int, Array], every_row: bool = False) -> float:
    """The mean over offsets k of `cpc_offset_loss`: `weights` maps each offset k to its W_k (D, E).

    CPC, arXiv 1807.03748, section 2.3: one matrix an offset. Equation 4 is one offset's loss; that
    they are averaged is a choice (the pseudo-code of CPC v2, arXiv 1905.09272, sums them, which is
    the mean times the number of offsets). The paper predicts up to 5 rows of a 7x7 grid.
    """
    losses = [cpc_offset_loss(z, context, w, k, every_row) for k, w in weights.items()]
    return float(np.mean(losses))


# AMDIM


def amdim_nce(
    antecedent: Array, maps: Array, clip: float = 20.0, weight: float = 5e-2
) -> tuple[float, float]:
    """The NCE loss and the penalty of antecedents (N, D) against consequent maps (N, D, H, W).

    AMDIM, arXiv 1906.00910, equation 2, in the form of the authors' costs.py. The raw score of
    antecedent i and position (j, y, x) is their dot product over sqrt(D); nothing is normalised.

    - Penalty: `weight` * mean of the squared raw scores over all N * N * H * W of them (positives
      too), *before* clipping. The code has 5e-2.
    - Clipping: s = clip * tanh(raw / clip). train.py and the README have 20 (the class default of
      LossMultiNCE is 10, but train.py overrides it).
    - Loss: for every i and every position (y, x) of its own map, -log(exp(s+) / (exp(s+) + sum over
      the (N - 1) * H * W positions of all *other* images of exp(s))); the other positions of the
      own map are neither positives nor negatives of this term. The mean is over i and (y, x).
    """
    count, dim = antecedent.shape
    _, _, height, width = maps.shape
    raw = np.zeros((count, count, height, width))
    for i in range(count):
        for j in range(count):
            for y in range(height):
                for x in range(width):
                    raw[i, j, y, x] = antecedent[i] @ maps[j, :, y, x] / math.sqrt(dim)
    scores = clip * np.tanh(raw / clip)
    losses = []
    for i in range(count):
        negatives = [s for j in range(count) if j != i for s in scores[i, j].ravel()]
        for positive in scores[i, i].ravel():
            losses.append(cross_entropy([positive, *negatives], 0))
    return float(np.mean(losses)), float(weight * np.mean(raw**2))


def amdim_loss(
    view1: tuple[Array, Array, Array],
    view2: tuple[Array, Array, Array],
    place1: Array,
    place2: Array,
    clip: float = 20.0,
    weight: float = 5e-2,
) -> float:
    """The loss of two views, each (f1 (N, D), f5 (N, D, 5, 5), f7 (N, D, 7, 7)).

    AMDIM, arXiv 1906.00910 (multiscale), in the form of the authors' costs.py: the terms 1 -> 5,
    1 -> 7 and 5 -> 5, each from view 1 to view 2 and back. An antecedent of 5 -> 5 is *one*
    position an image, drawn uniformly by the code: place1, place2 (N,) = row * 5 + column in view 1
    and in view 2. The loss is half the sum over both directions of all three terms and penalties.
    """
    total = 0.0
    for source, target, place in ((view1, view2, place1), (view2, view1, place2)):
        f1, f5, _ = source
        _, target5, target7 = target
        size = f5.shape[3]
        picked = [f5[i, :, place[i] // size, place[i] % size] for i in range(len(f5))]
        for antecedent, maps in ((f1, target5), (f1, target7), (np.array(picked), target5)):
            loss, penalty = amdim_nce(antecedent, maps, clip, weight)
            total += (loss + penalty) / 2
    return total


# Exemplar-CNN


def patch_probabilities(image: Array, side: int) -> Array:
    """The probability (H - side + 1, W - side + 1) of a patch's top left corner, for gray (H, W).

    Exemplar-CNN, arXiv 1406.6909, section 2 (creating surrogate training data): a patch is drawn
    with probability proportional to the mean squared gradient magnitude within it. The paper does
    not define the gradient; here it is that of np.gradient: (next - previous) / 2 inside, a
    one-sided difference at the border, computed on the image *before* the patch is cut. The squared
    magnitude is d_row^2 + d_col^2. If all gradients are zero, all places are equally likely (a
    choice).
    """
    d_row, d_column = np.gradient(np.asarray(image, dtype=np.float64))
    squared = d_row**2 + d_column**2
    height, width = squared.shape
    means = np.zeros((height - side + 1, width - side + 1))
    for top in range(height - side + 1):
        for left in range(width - side + 1):
            means[top, left] = np.mean(squared[top : top + side, left : left + side])
    if means.sum() == 0:
        return np.full_like(means, 1 / means.size)
    return means / means.sum()


# SimCLR v2


def distillation(
    student: Array, teacher: Array, temperature: float, square_factor: bool = False
) -> float:
    """The mean over images of -sum over y of P_T(y | x; T) log P_S(y | x; T), logits (B, classes).

    SimCLR v2, arXiv 2006.10029, equation 2 (a sum in the paper): both softmaxes at the same
    temperature; a cross-entropy, so the teacher's entropy stays in it. The official notebook
    (colabs/distillation_self_training.ipynb) multiplies by temperature^2, the paper does not:
    `square_factor`. Its temperature is 1, where both agree.
    """
    losses = []
    for s, t in zip(student, teacher, strict=True):
        log_s = s / temperature - np.logaddexp.reduce(s / temperature)
        log_t = t / temperature - np.logaddexp.reduce(t / temperature)
        losses.append(-np.sum(np.exp(log_t) * log_s))
    return float(np.mean(losses)) * (temperature**2 if square_factor else 1.0)


def distillation_with_labels(
    labelled: Array,
    labels: Array,
    student: Array,
    teacher: Array,
    temperature: float,
    alpha: float,
) -> float:
    """(1 - alpha) * cross-entropy with the labels + alpha * distillation.

    SimCLR v2, arXiv 2006.10029, equation 3: the first term over the labelled images alone (student
    logits `labelled` (L, classes), `labels` (L,)), at temperature 1 (equation 3 writes P_S(y | x)
    there without T); the second over all images (B, classes). Sums in the paper; here each term is
    a mean over its own images.
    """
    supervised = softmax_cross_entropy(labelled, labels)
    return (1 - alpha) * supervised + alpha * distillation(student, teacher, temperature)
