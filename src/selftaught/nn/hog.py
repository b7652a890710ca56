"""Histograms of oriented gradients."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from selftaught.precision import float32


@torch.no_grad()
@float32
def hog(x: Float[Tensor, "n c s s"], cell: int, bins: int = 9) -> Float[Tensor, "n c b h w"]:
    """Histograms of each channel's unsigned gradients in cells of ``cell`` x ``cell`` pixels.

    Dalal & Triggs 2005, Histograms of Oriented Gradients for Human Detection, in the details of
    MaskFeat's code (Wei et al. 2021, arXiv 2112.09133): Sobel kernels on the image mirrored at its
    border, orientations counted from the column's direction, one vote a pixel by the gradient's
    magnitude, and each histogram of L2 norm one, or zero where the cell is flat.

    Differences come before Sobel's smoothing, so that equal pixels give a gradient of exactly zero:
    the norm would make histograms of rounding as long as any other.
    """
    x = F.pad(x, (1, 1, 1, 1), mode="reflect")
    across, down = x[..., :, 2:] - x[..., :, :-2], x[..., 2:, :] - x[..., :-2, :]
    along_row = across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]
    along_column = down[..., :, :-2] + 2 * down[..., :, 1:-1] + down[..., :, 2:]
    magnitude = torch.hypot(along_row, along_column).unsqueeze(2)  # (N, C, 1, S, S)
    turn = torch.atan2(along_row, along_column) / math.pi  # in half turns
    index = (turn * bins).floor().long().unsqueeze(2) % bins
    votes = magnitude.new_zeros(*magnitude.shape[:2], bins, *magnitude.shape[3:])
    votes.scatter_(2, index, magnitude)
    histograms = F.avg_pool2d(votes.flatten(1, 2), cell)
    return F.normalize(histograms.unflatten(1, (-1, bins)), dim=2)


def patch_hog(
    x: Float[Tensor, "n c s s"], patch: int, cells: int, bins: int = 9
) -> Float[Tensor, "n l d"]:
    """The histograms of each patch's ``cells`` x ``cells`` cells as one row, patches row by row."""
    maps = hog(x, patch // cells, bins).flatten(1, 2)  # (N, C * bins, H, W)
    return F.pixel_unshuffle(maps, cells).flatten(2).transpose(1, 2)
