import numpy as np
import pytest
import scipy.linalg
import torch

from selftaught.errors import UserError
from selftaught.protocols.groups import alignment, lidar, uniformity


def views(n=60, q=5, d=6, noise=0.3, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, 1, d, generator=g) + noise * torch.randn(n, q, d, generator=g)


def test_lidar_equals_the_papers_formula():
    z = views().numpy().astype(np.float64)
    means = z.mean(1)
    between = sum(np.outer(m, m) for m in means - means.mean(0)) / len(z)
    within = sum(np.outer(v - m, v - m) for row, m in zip(z, means, strict=True) for v in row)
    within = within / (z.shape[0] * z.shape[1]) + 1e-4 * np.eye(6)
    root = scipy.linalg.inv(scipy.linalg.sqrtm(within).real)
    values = scipy.linalg.eigvalsh(root @ between @ root)
    p = values / values.sum() + 1e-7
    assert lidar(torch.from_numpy(z)) == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-9)


def noisy():
    """Two directions in which samples differ, and four in which views do."""
    z = views(n=4000, q=4, noise=0.05)
    z[..., 2:] = 0.3 * torch.randn(4000, 4, 4, generator=torch.Generator().manual_seed(1))
    return z


def test_lidar_is_the_number_of_directions_that_tell_samples_apart():
    assert lidar(views(n=4000, q=4)) == pytest.approx(6, abs=0.1)
    assert lidar(noisy()) == pytest.approx(2, abs=0.1)


def test_lidar_needs_true_groups():
    """Of views dealt out at random no direction tells samples apart more than another."""
    order = torch.randperm(16000, generator=torch.Generator().manual_seed(0))
    assert lidar(noisy().flatten(0, 1)[order].view(4000, 4, 6)) == pytest.approx(6, abs=0.1)


def test_lidar_of_a_collapsed_encoder_is_a_number():
    assert lidar(torch.ones(8, 3, 4)) >= 0


def test_alignment_by_counting():
    z = views(n=7, q=4)
    unit = z / z.norm(dim=2, keepdim=True)
    pairs = [
        (unit[i, a] - unit[i, b]).square().sum().item()
        for i in range(7)
        for a in range(4)
        for b in range(4)
        if a != b
    ]
    assert alignment(z) == pytest.approx(np.mean(pairs), rel=1e-5)
    assert alignment(z[:, :1].expand(-1, 4, -1)) == pytest.approx(0, abs=1e-6)


def test_uniformity_by_counting():
    z = views(n=9, q=2)[:, 0]
    unit = (z / z.norm(dim=1, keepdim=True)).double()
    pairs = [
        np.exp(-2 * (unit[a] - unit[b]).square().sum().item()) for a in range(9) for b in range(a)
    ]
    assert uniformity(z) == pytest.approx(np.log(np.mean(pairs)), rel=1e-6)
    assert uniformity(torch.ones(5, 3)) == pytest.approx(0, abs=1e-6)


def test_alignment_alone_is_best_where_all_has_collapsed():
    good, one = views(noise=0.1), torch.ones(60, 5, 6) + 1e-3 * views()
    assert alignment(one) < alignment(good)
    assert uniformity(one[:, 0]) > uniformity(good[:, 0]) + 1


def test_too_few_are_refused():
    with pytest.raises(UserError, match="two or more of both"):
        lidar(torch.randn(1, 4, 3))
    with pytest.raises(UserError, match="two or more"):
        alignment(torch.randn(4, 1, 3))
    with pytest.raises(UserError, match="two or more"):
        uniformity(torch.randn(1, 3))


def test_a_collapse_to_a_point_is_not_seen_by_lidar():
    """Which is why nothing is judged by it."""
    noise = torch.randn(64, 8, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert lidar(1 + 1e-12 * noise) > 0.9 * lidar(1 + noise)
