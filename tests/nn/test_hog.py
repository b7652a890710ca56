import numpy as np
import pytest
import torch
from skimage.feature import hog as theirs

from references import masked as reference
from selftaught.nn.hog import hog, patch_hog


def images(n=2, channels=3, side=12, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, channels, side, side, generator=g, dtype=torch.float64)


@pytest.mark.parametrize(("cell", "bins"), [(4, 9), (2, 9), (3, 6), (1, 9), (12, 2)])
def test_equals_the_reference(cell, bins):
    x = images()
    expected = [[reference.hog(c.numpy(), cell, bins) for c in image] for image in x]
    ours = hog(x, cell, bins).permute(0, 1, 3, 4, 2).numpy()
    np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("patch", "cells"), [(6, 2), (4, 1), (3, 3)])
def test_rows_of_patches_equal_the_reference(patch, cells):
    x = images()
    expected = reference.hog_targets(x.numpy(), patch, cells, 9)
    np.testing.assert_allclose(patch_hog(x, patch, cells).numpy(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("cell", "bins"), [(8, 9), (4, 9), (8, 6)])
def test_equals_scikit_image(cell, bins):
    """Of f(row) + g(column) Sobel's gradient is four times scikit-image's plain difference.

    Its orientations are counted from a row's direction, so the image is given to it turned over.
    """
    g = torch.Generator().manual_seed(1)
    rows, columns = torch.randn(2, 32, generator=g, dtype=torch.float64)
    x = rows[:, None] + columns
    expected = theirs(
        x.T.numpy(),
        orientations=bins,
        pixels_per_cell=(cell, cell),
        cells_per_block=(1, 1),
        block_norm="L2",
        feature_vector=False,
    )[:, :, 0, 0]
    ours = hog(x[None, None], cell, bins)[0, 0].permute(2, 1, 0).numpy()  # (W, H, bins)
    np.testing.assert_allclose(ours, expected, rtol=1e-6, atol=1e-8)


def test_a_flat_image_has_no_directions_whatever_its_brightness():
    x = torch.tensor([0.1, -0.8101, 1 / 3]).view(3, 1, 1, 1).expand(3, 1, 16, 16)
    assert not hog(x, 4).any()


def test_brightness_and_contrast_change_nothing_and_channels_are_apart():
    x = images()
    torch.testing.assert_close(hog(0.3 * x + 7, 4), hog(x, 4))
    other = x.clone()
    other[:, 0] = images(seed=1)[:, 0]
    assert torch.equal(hog(other, 4)[:, 1:], hog(x, 4)[:, 1:])


def test_images_in_half_precision_are_widened():
    x = images().bfloat16()
    assert torch.equal(hog(x, 4), hog(x.float(), 4))
