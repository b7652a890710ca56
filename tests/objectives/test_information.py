import itertools
import math

import numpy as np
import pytest
import torch

from references import information as reference
from references.contrastive import numerical_gradient
from selftaught.objectives.information import (
    covariance,
    cross_correlation,
    epps_pulley,
    invariance,
    scatter,
    spread,
    waves,
    whiten,
    whitened_regression,
)

NARROW = torch.tensor([0.3, 2.0, 1.0, 0.05, 4.0], dtype=torch.float64)


def pair(n=9, d=5, seed=0):
    """Two views that agree in part, of unlike variances and means."""
    g = torch.Generator().manual_seed(seed)
    common, a, b = torch.randn(3, n, d, generator=g, dtype=torch.float64).unbind()
    scale = NARROW[:d]
    return (common + 0.5 * a) * scale + 1, (common.roll(1, 1) + common + 0.5 * b) * scale - 2


def white(n, d, seed=0):
    """(n, d) of mean zero whose biased covariance is the identity, to the last digits."""
    g = torch.Generator().manual_seed(seed)
    z = torch.randn(n, d, generator=g, dtype=torch.float64)
    q, _ = torch.linalg.qr(z - z.mean(0))
    return q * math.sqrt(n)


def gaussian_mean(f, count):
    """The exact mean of a polynomial of degree five or less in ``count`` normal numbers."""
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(3))
    weights = weights / weights.sum()
    picks = [list(p) for p in itertools.product(range(3), repeat=count)]
    return sum(weights[p].prod() * f(nodes[p]) for p in picks).item()


def terms(z1, z2):
    """VICReg's terms in the reference's order."""
    return (
        invariance(z1, z2).item(),
        (spread(z1) + spread(z2)).item() / 2,
        (covariance(z1) + covariance(z2)).item(),
    )


# Barlow Twins


@pytest.mark.parametrize("weight", [0.0051, 1.0])
@pytest.mark.parametrize("d", [1, 5])
def test_cross_correlation_equals_the_reference(weight, d):
    z1, z2 = pair(d=d)
    expected = reference.barlow_twins(z1.numpy(), z2.numpy(), weight)
    assert cross_correlation(z1, z2, weight).item() == pytest.approx(expected, rel=1e-9)


def test_gradient_of_the_cross_correlation_equals_the_reference():
    z1, z2 = (z.requires_grad_() for z in pair(n=5, d=3))
    cross_correlation(z1, z2, 0.3).backward()
    slow = numerical_gradient(
        lambda z: reference.barlow_twins(z, z2.detach().numpy(), 0.3), z1.detach().numpy()
    )
    np.testing.assert_allclose(z1.grad.numpy(), slow, atol=1e-7)
    assert torch.autograd.gradcheck(lambda a, b: cross_correlation(a, b, 0.3), (z1, z2))


def test_cross_correlation_of_equal_white_views_is_zero():
    z = white(64, 6)
    assert cross_correlation(z, z, 1.0).item() == pytest.approx(0, abs=1e-8)
    assert cross_correlation(z, -z, 0.0).item() == pytest.approx(4 * 6, rel=1e-4)


def test_cross_correlation_of_collapsed_views_is_the_dimension():
    z = torch.ones(8, 6, dtype=torch.float64)
    assert cross_correlation(z, z, 0.005).item() == pytest.approx(6)


def test_cross_correlation_of_a_noisy_gaussian_is_its_closed_form():
    parts = white(300, 12)
    signal, noise = torch.tensor([[1.0, 4.0, 0.3, 2.0], [0.2, 1.0, 0.1, 9.0]], dtype=torch.float64)
    s, a, b = parts[:, :4] * signal.sqrt(), parts[:, 4:8], parts[:, 8:]
    z1, z2 = s + a * noise.sqrt(), s + b * noise.sqrt()
    epsilon = 1e-5  # added to each variance, so like noise that neither view shares
    expected = reference.barlow_twins_of_noise(signal.numpy(), noise.numpy() + epsilon)
    assert cross_correlation(z1, z2, 0.7).item() == pytest.approx(expected, rel=1e-9)


# VICReg


def test_the_terms_of_vicreg_equal_the_reference():
    z1, z2 = pair()
    expected = reference.vicreg_terms(z1.numpy(), z2.numpy())
    assert min(expected) > 0.1
    assert terms(z1, z2) == pytest.approx(expected, rel=1e-9)


def test_the_target_of_the_spread_is_gamma():
    z1, z2 = pair()
    _, expected, _ = reference.vicreg_terms(z1.numpy(), z2.numpy(), gamma=2.5)
    ours = (spread(z1, 2.5) + spread(z2, 2.5)) / 2
    assert ours.item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("part", range(3))
def test_gradients_of_the_terms_of_vicreg_equal_the_reference(part):
    z1, z2 = (z.requires_grad_() for z in pair(n=5, d=3))
    ours = [
        lambda a, b: invariance(a, b),
        lambda a, b: (spread(a) + spread(b)) / 2,
        lambda a, b: covariance(a) + covariance(b),
    ][part]
    ours(z1, z2).backward()
    slow = numerical_gradient(
        lambda z: reference.vicreg_terms(z, z2.detach().numpy())[part], z1.detach().numpy()
    )
    assert np.abs(slow).max() > 1e-3
    np.testing.assert_allclose(z1.grad.numpy(), slow, atol=1e-7)
    assert torch.autograd.gradcheck(ours, (z1, z2))


def test_vicreg_of_equal_wide_white_views_is_zero():
    z = 2 * white(64, 6)
    assert terms(z, z) == pytest.approx((0, 0, 0), abs=1e-12)


def test_vicreg_of_collapsed_views_is_all_spread():
    z = torch.ones(8, 6, dtype=torch.float64)
    assert terms(z, z) == pytest.approx((0, 1 - 0.01, 0), rel=1e-9)


def test_a_single_dimension_covaries_with_none():
    z, _ = pair(d=1)
    assert covariance(z).item() == 0


def test_the_covariance_of_a_gaussian_has_its_closed_form():
    factor = torch.tensor([[1.0, 0.0], [0.5, 2.0]], dtype=torch.float64)
    expected = reference.vicreg_covariance_of_gaussian((factor @ factor.T).numpy(), 3)
    ours = gaussian_mean(lambda x: covariance(x.view(3, 2) @ factor.T), 6)
    assert ours == pytest.approx(expected, rel=1e-9)


def test_the_invariance_of_a_gaussian_has_its_closed_form():
    mean = torch.tensor([1.0, -2.0], dtype=torch.float64)
    factor = torch.tensor([[1.0, 0.0], [0.5, 2.0]], dtype=torch.float64)
    expected = reference.vicreg_invariance_of_gaussian(mean.numpy(), (factor @ factor.T).numpy())
    zero = torch.zeros(2, 2, dtype=torch.float64)
    ours = gaussian_mean(lambda x: invariance(mean + x.view(2, 2) @ factor.T, zero), 4)
    assert ours == pytest.approx(expected, rel=1e-9)


def test_the_spread_of_a_gaussian_has_its_closed_form():
    n, scale = 500, torch.tensor([0.5, 3.0, 0.1, 0.9], dtype=torch.float64)
    z = white(n, 4) * scale * math.sqrt((n - 1) / n)  # the unbiased variance is scale squared
    expected = reference.vicreg_variance_of_gaussian(scale.square().diag().numpy())
    assert spread(z).item() == pytest.approx(expected, rel=1e-9)


# W-MSE


def stacked(v=3, n=12, d=3, seed=4):
    """Views (V, N, D) of one and the same samples, with dimensions that covary."""
    g = torch.Generator().manual_seed(seed)
    common = torch.randn(n, d, generator=g, dtype=torch.float64)
    noise = torch.randn(v, n, d, generator=g, dtype=torch.float64)
    return (common + 0.7 * noise) @ torch.randn(d, d, generator=g, dtype=torch.float64) + 2


@pytest.mark.parametrize("epsilon", [0.0, 0.1, 1.0])
def test_whitening_equals_the_reference(epsilon):
    z = stacked()
    expected = np.stack([reference.whiten(part.numpy(), epsilon) for part in z])
    np.testing.assert_allclose(whiten(z, epsilon).numpy(), expected, rtol=1e-9, atol=1e-12)


def test_whitened_rows_have_mean_zero_and_the_identity_for_covariance():
    white = whiten(stacked())
    eye = torch.eye(3, dtype=torch.float64).expand(3, 3, 3)
    torch.testing.assert_close(white.mean(dim=1), torch.zeros_like(white[:, 0]))
    torch.testing.assert_close(white.mT @ white / 11, eye)


@pytest.mark.parametrize("size", [4, 6, 12])
@pytest.mark.parametrize("epsilon", [0.0, 0.1])
def test_whitened_regression_equals_the_reference(size, epsilon):
    z = stacked()
    expected = reference.w_mse(z.numpy(), np.arange(12)[None], size, epsilon)
    assert whitened_regression(z, size, epsilon).item() == pytest.approx(expected, rel=1e-9)


def test_gradient_of_the_whitened_regression_equals_the_reference():
    z = stacked(v=2, n=8, d=2).requires_grad_()
    whitened_regression(z, 4, 0.01).backward()
    slow = numerical_gradient(
        lambda v: reference.w_mse(v, np.arange(8)[None], 4, 0.01), z.detach().numpy()
    )
    np.testing.assert_allclose(z.grad.numpy(), slow, atol=1e-7)
    assert torch.autograd.gradcheck(lambda v: whitened_regression(v, 4), (z,))


def test_whitened_regression_of_equal_opposite_and_unrelated_views():
    z = white(64, 6)
    assert whitened_regression(torch.stack([z, 3 * z + 1]), 64).item() == pytest.approx(
        0, abs=1e-12
    )
    assert whitened_regression(torch.stack([z, -z]), 64).item() == pytest.approx(4)
    other = white(512, 6, seed=1), white(512, 6, seed=2)
    assert whitened_regression(torch.stack(other), 512).item() == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_rows_that_cannot_be_whitened_are_not_a_number(rank):
    z = torch.tensor([[0.0, 1.0], [2.0, 2.0], [1.0, 0.0], [0.0, 1.0]])[:, :rank].sum(1)
    z = torch.stack([z, z, torch.arange(4.0) if rank == 2 else z], dim=1).expand(2, 4, 3)
    assert torch.isnan(whiten(z)).all()
    assert torch.isnan(whitened_regression(z, 4))
    assert torch.isfinite(whitened_regression(z, 4, 0.1))


# LeJEPA


def spaced(extent, knots):
    """The positive ones of an odd number of even knots from -extent to extent."""
    return torch.linspace(-extent, extent, knots, dtype=torch.float64)[knots // 2 + 1 :]


SIGREG = [reference.SIGREG_PAPER, reference.SIGREG_CODE]


def sketch(d=3, m=5):
    g = torch.Generator().manual_seed(6)
    return torch.nn.functional.normalize(torch.randn(d, m, generator=g, dtype=torch.float64), dim=0)


@pytest.mark.parametrize("rule", SIGREG)
def test_sigreg_equals_the_reference(rule):
    directions, t = sketch(), spaced(rule["t_max"], rule["knots"])
    z = stacked() * torch.tensor([0.1, 1.0, 3.0], dtype=torch.float64)[:, None, None]
    expected = [reference.sigreg(part.numpy(), directions.numpy(), **rule) for part in z]
    assert max(expected) > 2 * min(expected) > 0.1
    ours = epps_pulley(waves(z, directions, t), t, 12)
    assert ours.item() == pytest.approx(np.mean(expected), rel=1e-9)
    alone = epps_pulley(waves(z[0], directions, t), t, 12)
    assert alone.item() == pytest.approx(expected[0], rel=1e-9)


def test_gradient_of_sigreg_equals_the_reference():
    z, directions = stacked(v=1, n=4)[0].requires_grad_(), sketch(m=2)
    t = spaced(3.0, 33)

    def ours(z):
        return epps_pulley(waves(z, directions, t), t, 4)

    ours(z).backward()
    slow = numerical_gradient(
        lambda v: reference.sigreg(v, directions.numpy(), **reference.SIGREG_CODE),
        z.detach().numpy(),
    )
    np.testing.assert_allclose(z.grad.numpy(), slow, atol=1e-7)
    assert torch.autograd.gradcheck(ours, (z,))


def test_the_waves_of_parts_have_the_mean_of_the_whole():
    z, directions, t = stacked(), sketch(), spaced(5.0, 17)
    parts = (waves(z[:, :6], directions, t) + waves(z[:, 6:], directions, t)) / 2
    torch.testing.assert_close(parts, waves(z, directions, t))


def test_sigreg_of_collapsed_rows_has_its_closed_form():
    t = spaced(12.0, 241)
    zero = torch.zeros(7, 3, dtype=torch.float64)
    ours = epps_pulley(waves(zero, sketch(), t), t, 7)
    assert ours.item() == pytest.approx(reference.epps_pulley_exact([0.0] * 7), rel=1e-9)


@pytest.mark.parametrize(("mean", "variance"), [(0.0, 1.0), (0.5, 1.0), (-1.0, 0.25), (0.0, 3.0)])
def test_sigreg_of_gaussian_rows_has_its_closed_form(mean, variance):
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.hermite_e.hermegauss(60))
    weights = weights / weights.sum()
    axis = torch.ones(1, 1, dtype=torch.float64)
    t = spaced(12.0, 241)
    x = mean + math.sqrt(variance) * nodes  # two samples: all pairs of nodes
    pairs = torch.cartesian_prod(x, x).unsqueeze(-1)  # (3600, 2, 1)
    each = torch.stack([epps_pulley(w, t, 2) for w in waves(pairs, axis, t)])
    expected = reference.epps_pulley_of_gaussian(mean, variance, 2)
    ours = (each * torch.outer(weights, weights).flatten()).sum()
    assert ours.item() == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("centres", [1, 2, 3])
def test_scatter_equals_the_reference(centres):
    z = stacked().requires_grad_()
    expected = reference.lejepa_prediction(z.detach().numpy(), centres)
    scatter(z, centres).backward()
    assert scatter(z, centres).item() == pytest.approx(expected, rel=1e-9)
    slow = numerical_gradient(lambda v: reference.lejepa_prediction(v, centres), z.detach().numpy())
    np.testing.assert_allclose(z.grad.numpy(), slow, atol=1e-8)
    assert torch.autograd.gradcheck(lambda v: scatter(v, centres), (z,))


def test_scatter_of_equal_views_is_zero():
    z = stacked(v=1).expand(4, -1, -1)
    assert scatter(z, 2).item() == 0


# All of them


OBJECTIVES = {
    "cross_correlation": lambda a, b: cross_correlation(a, b, 0.005),
    "spread": lambda a, b: spread(a),
    "covariance": lambda a, b: covariance(a),
    "invariance": invariance,
    "whiten": lambda a, b: whiten(a, 0.01)[:7].square().mean(),
    "whitened_regression": lambda a, b: whitened_regression(torch.stack([a, b]), len(a), 0.01),
    "sigreg": lambda a, b: sigreg(torch.stack([a, b])),
    "scatter": lambda a, b: scatter(torch.stack([a, b]), 2),
}


def sigreg(z):
    t = spaced(3.0, 33).to(z if z.dtype == torch.float64 else torch.float32)
    return epps_pulley(waves(z, sketch(z.shape[-1]).to(t), t), t, z.shape[1])


@pytest.mark.parametrize("name", OBJECTIVES)
def test_single_precision_under_autocast(name):
    z1, z2 = (z.float() for z in pair(n=64, d=5))
    objective = OBJECTIVES[name]
    with torch.autocast("cpu", torch.bfloat16):
        half = objective(z1, z2)
        narrow = objective(z1.bfloat16(), z2.bfloat16())
    outside = objective(z1.bfloat16(), z2.bfloat16())
    assert half.dtype == narrow.dtype == outside.dtype == torch.float32
    assert half.item() == pytest.approx(objective(z1, z2).item(), rel=1e-6)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_collapsed_views_give_a_finite_gradient(name):
    z = torch.ones(8, 3, requires_grad=True)
    loss = OBJECTIVES[name](z, z)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(z.grad).all()
