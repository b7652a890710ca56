"""Slow float64 references of the masked autoencoder, from the paper and its official code."""

import math

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
