"""Slow float64 references of methods that hide patches, from the papers and their code."""

import math
from typing import Any

import numpy as np

Array = np.ndarray


def patchify(x: Array, patch: int) -> Array:
    """Cut images (B, C, H, W) into patches (B, L, patch * patch * C), L = (H / patch)(W / patch).

    MAE, arXiv 2111.06377, in the order of its official code: patches row by row; in a patch, pixels
    row by row, the channels of a pixel side by side.
    """
    batch, channels, height, width = x.shape
    images = []
    for b in range(batch):
        patches = []
        for top in range(0, height, patch):
            for left in range(0, width, patch):
                values = []
                for i in range(patch):
                    for j in range(patch):
                        for c in range(channels):
                            values.append(x[b, c, top + i, left + j])
                patches.append(values)
        images.append(patches)
    return np.array(images, dtype=np.float64)


def mae_loss(prediction: Array, patches: Array, hidden_index: Array, normalize: bool) -> float:
    """The mean squared error over hidden patches only.

    `prediction` (B, M, P) holds the hidden patches alone, in the order of `hidden_index` (B, M);
    `patches` (B, L, P) holds all true patches. MAE, arXiv 2111.06377, section 3. With `normalize`
    each true patch becomes (x - mean) / sqrt(variance + 1e-6), the variance being the *unbiased*
    one (divided by P - 1), as in the official code. A layer norm divides by P instead, and gives
    targets larger by sqrt(P / (P - 1)).
    """
    losses = []
    for b in range(len(prediction)):
        for m, index in enumerate(hidden_index[b]):
            target = patches[b, index].astype(np.float64)
            if normalize:
                mean = sum(target) / len(target)
                variance = sum((target - mean) ** 2) / (len(target) - 1)
                target = (target - mean) / math.sqrt(variance + 1e-6)
            losses.append(np.mean((prediction[b, m] - target) ** 2))
    return float(np.mean(losses))


def mae(
    images: Array,
    noise: Array,
    ratio: float,
    parts: dict[str, Any],
    *,
    normalize: bool = True,
    class_token: Array | None = None,
) -> tuple[float, Array]:
    """MAE's loss of images (B, C, S, S), and all it predicts (B, L, P), place by place.

    In the order of `models_mae.py` of the official code: positions are added, the tokens are
    shuffled as `noise` (B, L) says and the first int(L * (1 - ratio)) of them kept; the mask tokens
    are appended and all put back where they were; only then the decoder's positions are added, and
    the decoder sees the image's places from first to last. `parts` has "embed" (weight (D, C, P, P)
    and bias), "widen" and "pixels" (weight and bias of linear maps), "mask" (the token), and the
    blocks with their last norm, "encode" and "decode", as functions of tokens (K, D).

    A `class_token` (D) is put before what the encoder sees. What the encoder makes of it is left
    out here, where theirs goes through the decoder as well, at a place of its own.
    """
    weight, bias = parts["embed"]
    patch, width = weight.shape[-1], parts["mask"].shape[0]
    patches = patchify(images, patch)  # (B, L, P)
    length = patches.shape[1]
    grid = math.isqrt(length)
    kernel = weight.transpose(0, 2, 3, 1).reshape(len(weight), -1)  # pixels as in a patch
    kept = int(length * (1 - ratio))
    predictions, hidden = [], []
    for rows, draw in zip(patches, noise, strict=True):
        tokens = rows @ kernel.T + bias + sincos_position(len(weight), grid)
        shuffle = np.argsort(draw)
        restore = np.argsort(shuffle)
        seen = tokens[shuffle][:kept]
        if class_token is not None:
            seen = parts["encode"](np.concatenate([class_token[None], seen]))[1:]
        else:
            seen = parts["encode"](seen)
        seen = seen @ parts["widen"][0].T + parts["widen"][1]
        blank = np.repeat(parts["mask"][None], length - kept, axis=0)
        tokens = np.concatenate([seen, blank])[restore] + sincos_position(width, grid)
        predictions.append(parts["decode"](tokens) @ parts["pixels"][0].T + parts["pixels"][1])
        hidden.append(shuffle[kept:])
    everything, index = np.array(predictions), np.array(hidden)
    wanted = np.take_along_axis(everything, index[..., None], axis=1)
    return mae_loss(wanted, patches, index, normalize), everything


def sincos_position(dim: int, grid: int) -> Array:
    """The fixed position embedding (grid * grid, dim) of a square grid, patches row by row.

    As in MAE's official code (the 1-D formula: Vaswani et al., arXiv 1706.03762, section 3.5). The
    first half of `dim` encodes the *column*, the second half the row; within a half come all sines
    and then all cosines (not interleaved), of position * 10000^(-i / (dim / 4)), i from 0 up to
    dim / 4 - 1. The class token, where there is one, has a row of zeros in front (not made here).
    """
    assert dim % 4 == 0, dim
    quarter = dim // 4
    rows = []
    for row in range(grid):
        for column in range(grid):
            values = []
            for position in (column, row):
                angles = [position / 10000 ** (i / quarter) for i in range(quarter)]
                values += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
            rows.append(values)
    return np.array(rows, dtype=np.float64)


def unit_mask(noise: Array, grid: int, unit: int, ratio: float) -> Array:
    """One image's hidden patches, boolean (grid * grid), hidden `unit` x `unit` patches at once.

    `MaskGenerator` of SimMIM's data/data_simmim.py: of the units the first ceil(ratio * count) of a
    random order, here that of `noise`, one number a unit; each is then repeated over its patches.
    """
    side = grid // unit
    chosen = list(np.argsort(noise))[: math.ceil(side * side * ratio)]
    mask = np.zeros((grid, grid), dtype=bool)
    for row in range(grid):
        for column in range(grid):
            mask[row, column] = (row // unit) * side + column // unit in chosen
    return mask.flatten()


def simmim_loss(painted: Array, images: Array, mask: Array, patch: int) -> float:
    """SimMIM, arXiv 2111.09886, equation 1: |y - x| summed over hidden pixels, over their number.

    `painted` and `images` are (B, C, H, W), `mask` (B, L) names hidden patches row by row. Omega,
    "the number of elements", counts each channel of a pixel, as the division by `in_chans` does in
    the official code (which adds 1e-5 to the number of pixels; not here).
    """
    total, count = 0.0, 0
    batch, channels, height, width = images.shape
    for b in range(batch):
        for i in range(height):
            for j in range(width):
                if mask[b, (i // patch) * (width // patch) + j // patch]:
                    for c in range(channels):
                        total += abs(painted[b, c, i, j] - images[b, c, i, j])
                        count += 1
    return total / count


def hog(image: Array, cell: int, bins: int) -> Array:
    """Histograms (rows, columns, bins) of one channel's (H, W) oriented gradients, cell by cell.

    MaskFeat, arXiv 2112.09133, section 3.2, in the details as `HOGLayerC` of its official code:
    Sobel kernels, the image mirrored at its border without repeating it; the orientation is that of
    atan2(gradient along a row, gradient along a column) without a sign, in equal bins from 0; each
    pixel votes for one bin by its magnitude; each cell's histogram is divided by its L2 norm.
    """
    height, width = image.shape

    def at(i: int, j: int) -> float:
        i, j = abs(i), abs(j)
        i = 2 * (height - 1) - i if i >= height else i
        j = 2 * (width - 1) - j if j >= width else j
        return float(image[i, j])

    found = np.zeros((height // cell, width // cell, bins))
    for i in range(height):
        for j in range(width):
            along_row = sum(w * (at(i + d, j + 1) - at(i + d, j - 1)) for d, w in SMOOTH)
            along_column = sum(w * (at(i + 1, j + d) - at(i - 1, j + d)) for d, w in SMOOTH)
            angle = math.atan2(along_row, along_column) % math.pi
            index = min(int(angle / math.pi * bins), bins - 1)
            found[i // cell, j // cell, index] += math.hypot(along_row, along_column)
    for row in found:
        for histogram in row:
            norm = math.sqrt(sum(histogram**2))
            if norm:
                histogram /= norm
    return found


SMOOTH = ((-1, 1), (0, 2), (1, 1))  # Sobel's smoothing across a difference


def hog_targets(images: Array, patch: int, cells: int, bins: int) -> Array:
    """What MaskFeat predicts of each patch (B, L, D), L row by row, D = C * bins * cells^2.

    Each channel of (B, C, H, W) has histograms of its own; a patch's are those of its `cells` x
    `cells` cells. In a patch: channel, bin, then the cells row by row.
    """
    cell = patch // cells
    everything = []
    for image in images:
        maps = [hog(channel, cell, bins) for channel in image]
        patches = []
        for row in range(image.shape[1] // patch):
            for column in range(image.shape[2] // patch):
                values = []
                for found in maps:
                    for k in range(bins):
                        for i in range(cells):
                            for j in range(cells):
                                values.append(found[row * cells + i, column * cells + j, k])
                patches.append(values)
        everything.append(patches)
    return np.array(everything)


def maskfeat_loss(prediction: Array, target: Array, mask: Array) -> float:
    """MaskFeat, arXiv 2112.09133, section 3.1: the squared distance, over hidden patches only.

    `prediction` and `target` are (B, L, D), `mask` (B, L); the mean over all hidden numbers, as the
    official code's "multi_mse".
    """
    squares = []
    for p, t, hidden in zip(prediction, target, mask, strict=True):
        for a, b, is_hidden in zip(p, t, hidden, strict=True):
            if is_hidden:
                squares += [(x - y) ** 2 for x, y in zip(a, b, strict=True)]
    return float(sum(squares) / len(squares))


def beit_loss(scores: Array, words: Array, mask: Array) -> float:
    """BEiT, arXiv 2106.08254, equation 1: -log p of each hidden patch's word, the mean of them.

    `scores` are (B, L, K), `words` and `mask` (B, L).
    """
    losses = []
    for s, w, hidden in zip(scores, words, mask, strict=True):
        for row, word, is_hidden in zip(s, w, hidden, strict=True):
            if is_hidden:
                top = max(row)
                total = sum(math.exp(v - top) for v in row)
                losses.append(-(row[word] - top - math.log(total)))
    return float(sum(losses) / len(losses))
