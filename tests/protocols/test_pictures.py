import numpy as np
import pytest
import scipy.linalg
import torch

from selftaught.errors import UserError
from selftaught.protocols.pictures import frechet, precision_recall, psnr, ssim


def noise(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_psnr_of_a_known_error():
    x = torch.full((2, 1, 4, 4), 0.5)
    y = x + torch.tensor([0.1, 0.01])[:, None, None, None]
    torch.testing.assert_close(psnr(x, y), torch.tensor([20.0, 40.0]).double(), rtol=0, atol=1e-4)


def test_an_exact_pair_leaves_the_mean_finite():
    x = noise(2, 3, 4, 4)
    y = torch.stack([x[0], x[1] + 0.1])
    torch.testing.assert_close(psnr(x, y), torch.tensor([100.0, 20.0]).double())


def test_ssim_of_colours_is_the_mean_over_channels():
    x, y = noise(2, 3, 14, 14), noise(2, 3, 14, 14, seed=1)
    alone = torch.stack([ssim(x[:, [c]], y[:, [c]]) for c in range(3)])
    torch.testing.assert_close(ssim(x, y), alone.mean(0))


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_equals_a_sum_window_by_window(channels):
    x, y = noise(2, channels, 14, 14), noise(2, channels, 14, 14, seed=1)
    y = 0.7 * x + 0.3 * y
    place = np.arange(11) - 5
    weight = np.exp(-(place[:, None] ** 2 + place[None] ** 2) / (2 * 1.5**2))
    weight /= weight.sum()
    for n in range(2):
        found = []
        for c in range(channels):
            for i in range(4):
                for j in range(4):
                    a = x[n, c, i : i + 11, j : j + 11].numpy()
                    b = y[n, c, i : i + 11, j : j + 11].numpy()
                    ma, mb = (weight * a).sum(), (weight * b).sum()
                    va, vb = (weight * (a - ma) ** 2).sum(), (weight * (b - mb) ** 2).sum()
                    cov = (weight * (a - ma) * (b - mb)).sum()
                    found.append(
                        (2 * ma * mb + 1e-4)
                        * (2 * cov + 9e-4)
                        / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))
                    )
        assert ssim(x, y)[n].item() == pytest.approx(np.mean(found), rel=1e-9)


def test_ssim_of_equal_images_is_one():
    x = noise(2, 1, 16, 16)
    torch.testing.assert_close(ssim(x, x), torch.ones(2, dtype=torch.float64))


def test_ssim_of_small_images_is_refused():
    with pytest.raises(UserError, match="smaller than the 11"):
        ssim(noise(1, 1, 8, 8), noise(1, 1, 8, 8))


def test_frechet_equals_its_formula():
    a, b = noise(50, 6), 2 * noise(60, 6, seed=1) ** 2
    cov_a, cov_b = np.cov(a.numpy().T), np.cov(b.numpy().T)
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    shift = ((a.numpy().mean(0) - b.numpy().mean(0)) ** 2).sum()
    expected = shift + np.trace(cov_a + cov_b - 2 * root)
    assert frechet(a, b) == pytest.approx(expected, rel=1e-9)
    assert frechet(a, a) == pytest.approx(0, abs=1e-12)
    assert frechet(a, a + 1) == pytest.approx(6)


def test_precision_and_recall_by_counting():
    real, made = noise(40, 2), noise(30, 2, seed=1) * 1.5
    found = precision_recall(real, made, k=3)
    for value, (points, others) in zip(found, [(made, real), (real, made)], strict=True):
        radius = [np.sort(np.linalg.norm(others - o, axis=1))[3] for o in others]
        inside = [
            any(np.linalg.norm(p - o) <= r for o, r in zip(others, radius, strict=True))
            for p in points
        ]
        assert value == pytest.approx(np.mean(inside))
    assert 0 < found[0] < 1


def test_one_mode_has_precision_without_recall():
    real = torch.cat([noise(50, 2), noise(50, 2, seed=1) + 10])
    precision, recall = precision_recall(real, noise(50, 2, seed=2))
    assert precision > 0.9
    assert recall < 0.6


def test_too_few_images_are_refused():
    with pytest.raises(UserError, match="no 3 neighbours"):
        precision_recall(noise(3, 2), noise(9, 2))
    with pytest.raises(UserError, match="two images"):
        frechet(noise(1, 2), noise(9, 2))
