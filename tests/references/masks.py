"""Slow loops over images for masks made of blocks, from the authors' code, given the draws."""

import math

import numpy as np

Array = np.ndarray


def place(draw: float, grid: int, side: int) -> int:
    """The first row or column of a block of `side`, from a number in [0, 1): 0 to grid - side."""
    return int(np.floor(draw * (grid - side + 1)))


def blockwise(
    draws: Array, spare: Array, grid: int, count: int, smallest: int, aspect: float
) -> Array:
    """One image's hidden places, boolean (grid * grid): BEiT, arXiv 2106.08254, algorithm 1.

    As beit/masking_generator.py, except that it goes on after ten blocks in a row that do not fit,
    to the last of `draws` (R, 4): area, shape, row, column, each in [0, 1). The places that are
    then missing are those of the lowest `spare` (grid * grid): a fixed number, as data2vec 2.0 has
    it (compute_block_mask_2d in fairseq's data_utils.py).
    """
    hidden = np.zeros((grid, grid), dtype=bool)
    for area, shape, row, column in draws:
        remaining = count - hidden.sum()
        target = smallest + area * (remaining - smallest)
        low, high = math.log(aspect), math.log(1 / aspect)
        ratio = math.exp(low + shape * (high - low))
        h, w = round(math.sqrt(target * ratio)), round(math.sqrt(target / ratio))
        if h >= grid or w >= grid:
            continue
        top, left = place(row, grid, h), place(column, grid, w)
        block = np.zeros((grid, grid), dtype=bool)
        block[top : top + h, left : left + w] = True
        if 0 < (block & ~hidden).sum() <= remaining:
            hidden |= block
    hidden = hidden.flatten()
    for index in np.argsort(spare):
        if hidden.sum() < count:
            hidden[index] = True
    return hidden


def block_size(
    draw: float, grid: int, scale: tuple[float, float], aspect: tuple[float, float]
) -> tuple[int, int]:
    """`_sample_block_size` of ijepa's src/masks/multiblock.py: one draw for area and shape."""
    most = int(grid * grid * (scale[0] + draw * (scale[1] - scale[0])))
    ratio = aspect[0] + draw * (aspect[1] - aspect[0])
    h, w = round(math.sqrt(most * ratio)), round(math.sqrt(most / ratio))
    while h >= grid:
        h -= 1
    while w >= grid:
        w -= 1
    return h, w


def multiblock(
    sizes: Array, blocks: Array, squares: Array, grid: int, least: int, tries: int = 20
) -> tuple[list[int], list[list[int]]]:
    """One image's context, before it is cut to the batch's smallest, and its targets' places.

    I-JEPA, arXiv 2301.08243, as `_sample_block_mask` of src/masks/multiblock.py with the defaults
    of configs/in1k_*.yaml, except that a block may touch the last row and column (`place`).
    `sizes` (2,): of targets and of the context; `blocks` (M, 2): where the targets lie; `squares`
    (R, 2): where the context is tried. After each `tries` of them one target less is avoided.
    """
    h, w = block_size(sizes[0], grid, (0.15, 0.2), (0.75, 1.5))
    side, _ = block_size(sizes[1], grid, (0.85, 1.0), (1.0, 1.0))
    targets = []
    for row, column in blocks:
        top, left = place(row, grid, h), place(column, grid, w)
        targets.append([r * grid + c for r in range(top, top + h) for c in range(left, left + w)])
    for i, (row, column) in enumerate(squares):
        avoided = {p for target in targets[: len(targets) - i // tries] for p in target}
        top, left = place(row, grid, side), place(column, grid, side)
        square = [r * grid + c for r in range(top, top + side) for c in range(left, left + side)]
        context = [p for p in square if p not in avoided]
        if len(context) > least:
            return context, targets
    raise AssertionError("the last try avoids no target")
