import itertools

import pytest
import torch
import torch.nn.functional as F
from skimage.color import hsv2rgb, rgb2hsv
from skimage.filters import gaussian

from selftaught.errors import UserError
from selftaught.protocols.corruptions import CORRUPTIONS, SEVERITIES, corrupt, parameters_of


def images(channels, size, count=6):
    """Smooth shapes with an edge and a fine texture."""
    g = torch.Generator().manual_seed(0)
    coarse = torch.rand(count, channels, 4, 4, generator=g)
    x = F.interpolate(coarse, size=size, mode="bicubic").clamp(0.1, 0.9)
    x[:, :, : size // 3] *= 0.5
    x = (x + 0.2 * torch.rand(x.shape, generator=g) - 0.1).clamp(0, 1)
    return (x * 255).round() / 255


def apply(x, name, severity, seed=0):
    return corrupt(x, name, severity, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 32, 96])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_severity_is_farther_from_the_image(name, size, channels):
    x = images(channels, size)
    distances = []
    for severity in SEVERITIES:
        y = apply(x, name, severity)
        assert y.shape == x.shape
        assert y.dtype == torch.float32
        assert y.min() >= 0
        assert y.max() <= 1
        torch.testing.assert_close((y * 255).round(), y * 255, atol=1e-3, rtol=0)
        distances.append((y - x).square().mean().sqrt().item())
    if name == "pixelate":  # blocks that end inside pixels alias, so only the ends are ordered
        assert size == 8 or distances[-1] > 1.1 * distances[0]
        return
    for before, after in itertools.pairwise(distances):
        assert after >= 0.97 * before  # steps of a few levels may round alike
    assert distances[-1] > distances[0]
    assert distances[-1] > 0.005


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_what_is_random_is_the_generators(name):
    x = images(3, 16)
    one, two, other = (apply(x, name, 5, seed) for seed in (0, 0, 1))
    assert torch.equal(one, two)
    assert torch.equal(one, other) == (not name.endswith("noise") and name != "motion_blur")


def test_noise_is_as_strong_as_stated():
    x = torch.full((40, 3, 32, 32), 0.5)
    assert (apply(x, "gaussian_noise", 1) - x).std().item() == pytest.approx(0.04, rel=0.02)
    assert (apply(x, "shot_noise", 5) - x).std().item() == pytest.approx(
        (0.5 / 50) ** 0.5, rel=0.02
    )
    share = (apply(x, "impulse_noise", 5) - x).abs().gt(0.4).double().mean().item()
    assert share == pytest.approx(0.07, rel=0.03)


def test_gaussian_blur_is_skimages():
    x = images(1, 32)
    for severity, sd in zip(SEVERITIES, (0.4, 0.6, 0.7, 0.8, 1), strict=True):
        expected = torch.from_numpy(gaussian(x[0, 0].numpy(), sigma=sd, mode="nearest"))
        found = apply(x, "gaussian_blur", severity)[0, 0]
        torch.testing.assert_close(found, expected.float(), atol=3e-3, rtol=0)


def test_brightness_is_that_of_hsv():
    x = images(3, 8)
    x[0, :, 0, 0] = 0
    hsv = rgb2hsv(x[0].permute(1, 2, 0).numpy())
    hsv[..., 2] = (hsv[..., 2] + 0.3).clip(0, 1)
    expected = torch.from_numpy(hsv2rgb(hsv)).permute(2, 0, 1).float()
    torch.testing.assert_close(apply(x, "brightness", 5)[0], expected, atol=3e-3, rtol=0)


def test_motion_goes_along_a_line_and_keeps_the_mean():
    x = torch.zeros(50, 1, 63, 63)
    x[:, :, 31, 31] = 1
    y = apply(x, "motion_blur", 5)
    assert y.sum((1, 2, 3)).sub(1).abs().max() < 0.05
    rows, columns = y.amax((0, 1)).nonzero().unbind(1)
    assert columns.max() == 31  # half a line
    assert (rows < 31).any()
    assert (rows > 31).any()
    assert ((rows - 31).abs() <= (31 - columns)).all()  # 45 degrees at most


def test_contrast_and_blocks_as_stated():
    x = images(3, 32)
    y = apply(x, "contrast", 2)
    torch.testing.assert_close(y.std((2, 3)), 0.5 * x.std((2, 3)), atol=3e-3, rtol=0)
    assert parameters_of(32) == "CIFAR-10-C"
    assert parameters_of(224) == "ImageNet-C"
    blocks = apply(images(1, 96), "pixelate", 5)  # 24 x 24 blocks of 4
    small = blocks[:, :, ::4, ::4].repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert torch.equal(blocks, small)


def test_unknown_ones():
    for name, severity in (("frost", 1), ("jpeg", 6)):
        with pytest.raises(UserError, match="no corruption"):
            apply(images(1, 8), name, severity)
