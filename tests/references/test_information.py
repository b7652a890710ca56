"""The references of information maximisation, against cases that can be computed by hand."""

import itertools
import math
from statistics import NormalDist

import numpy as np
import pytest

from references.contrastive import numerical_gradient
from references.information import (
    SIGREG_CODE,
    SIGREG_PAPER,
    barlow_twins,
    barlow_twins_of_noise,
    correlation_loss,
    covariance,
    cross_correlation,
    epps_pulley,
    epps_pulley_exact,
    epps_pulley_of_gaussian,
    lejepa,
    lejepa_prediction,
    paper_vicreg,
    sigreg,
    vicreg,
    vicreg_covariance_of_gaussian,
    vicreg_invariance_of_gaussian,
    vicreg_terms,
    vicreg_variance_of_gaussian,
    w_mse,
    whiten,
)

SQUARE = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])  # biased covariance I


def close(value, relative=1e-12, absolute=1e-13):
    return pytest.approx(value, rel=relative, abs=absolute)


def gaussian_expectation(f, count):
    """The exact mean of a polynomial of degree five or less in `count` standard normal numbers."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    weights = weights / weights.sum()
    total = 0.0
    for picks in itertools.product(range(3), repeat=count):
        total += math.prod(weights[list(picks)]) * f(nodes[list(picks)])
    return total


def test_covariance_is_unbiased():
    z = np.array([[0.0, 0.0], [2.0, 4.0]])
    np.testing.assert_allclose(covariance(z), [[2, 4], [4, 8]])
    z = np.random.default_rng(0).normal(size=(7, 3))
    np.testing.assert_allclose(covariance(z), np.cov(z.T))


# Barlow Twins


def test_cross_correlation_by_hand():
    z1 = np.array([[0.0, 3.0], [2.0, 1.0]])
    z2 = np.array([[5.0, 0.0], [9.0, 2.0]])
    np.testing.assert_allclose(cross_correlation(z1, z2, 0), [[1, 1], [-1, -1]])
    # variances 1 and 1, 4 and 1; the products of the deviations are 2, 1, -2, -1
    shrunk = [[2 / math.sqrt(2 * 5), 1 / 2], [-2 / math.sqrt(2 * 5), -1 / 2]]
    np.testing.assert_allclose(cross_correlation(z1, z2, epsilon=1), shrunk)


def test_cross_correlation_has_z1_in_rows_and_is_that_of_numpy():
    z1, z2 = np.random.default_rng(0).normal(size=(2, 9, 3))
    z2 = z2 + z1[:, ::-1]
    expected = np.corrcoef(z1.T, z2.T)[:3, 3:]
    assert np.abs(expected - expected.T).max() > 0.1
    np.testing.assert_allclose(cross_correlation(z1, z2, 0), expected)


def test_correlation_loss_by_hand():
    c = np.array([[0.5, 0.25, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.5, -1.0]])
    assert correlation_loss(c, 0.1) == close(0.25 + 0 + 4 + 0.1 * (0.0625 + 1 + 0.25))


def test_barlow_twins_of_identical_white_views_is_zero():
    assert barlow_twins(SQUARE, SQUARE, 0.0051, 0) == close(0)
    assert barlow_twins(3 * SQUARE + 1, SQUARE, 0.0051, 0) == close(0)
    assert barlow_twins(SQUARE, SQUARE, 0.0051) == close(2 * (1 - 1 / (1 + 1e-5)) ** 2, 1e-8)


def test_barlow_twins_of_opposite_and_of_swapped_views():
    assert barlow_twins(SQUARE, -SQUARE, 0.0051, 0) == close(2 * 4)
    assert barlow_twins(SQUARE, SQUARE[:, ::-1], 0.25, 0) == close(2 + 0.25 * 2)


def test_barlow_twins_of_collapsed_features_is_the_dimension():
    assert barlow_twins(np.ones((5, 3)), np.ones((5, 3)), 0.0051) == close(3)


def test_barlow_twins_of_one_repeated_feature():
    z = np.repeat(np.array([[1.0], [5.0], [-2.0]]), 4, axis=1)
    assert barlow_twins(z, z, 0.0051, 0) == close(0.0051 * 12)


def test_barlow_twins_ignores_the_shift_and_scale_of_each_view():
    z1, z2 = np.random.default_rng(1).normal(size=(2, 8, 3))
    moved = z1 * np.array([2.0, 0.1, 7.0]) + np.array([1.0, -4.0, 0.0])
    assert barlow_twins(moved, z2, 0.01, 0) == close(barlow_twins(z1, z2, 0.01, 0))
    assert barlow_twins(z1, z2, 0.01) == close(barlow_twins(z2, z1, 0.01))


def test_barlow_twins_of_noise_is_its_closed_form():
    # s, a and b are columns of a Hadamard matrix: uncorrelated, each of variance 1
    h = np.array([[1.0]])
    for _ in range(3):
        h = np.block([[h, h], [h, -h]])
    s, a, b = h[:, [1, 2]], h[:, [3, 4]], h[:, [5, 6]]
    signal, noise = np.array([1.0, 4.0]), np.array([0.25, 9.0])
    z1 = s * np.sqrt(signal) + a * np.sqrt(noise)
    z2 = s * np.sqrt(signal) + b * np.sqrt(noise)
    expected = (0.25 / 1.25) ** 2 + (9 / 13) ** 2
    assert barlow_twins_of_noise(signal, noise) == close(expected)
    assert barlow_twins(z1, z2, 0.3, 0) == close(expected)


# VICReg


def test_vicreg_terms_by_hand():
    z1 = np.array([[0.0, 0.0], [1.0, 0.5]])  # covariance [[0.5, 0.25], [0.25, 0.125]]
    z2 = np.array([[0.0, 3.0], [4.0, 3.0]])  # covariance [[8, 0], [0, 0]]
    invariance, variance, covariance_term = vicreg_terms(z1, z2)
    assert invariance == close((0 + 9 + 9 + 6.25) / 4)
    first = (1 - math.sqrt(0.5001) + 1 - math.sqrt(0.1251)) / 2
    second = (0 + 1 - math.sqrt(1e-4)) / 2
    assert variance == close((first + second) / 2)
    assert covariance_term == close(2 * 0.25**2 / 2)
    weighted = 25 * invariance + 25 * variance + covariance_term
    assert vicreg(z1, z2) == close(weighted)
    assert vicreg(z1, z2, 1, 2, 3) == close(invariance + 2 * variance + 3 * covariance_term)
    literal = 25 * 24.25 / 2 + 25 * (first + second) + 2 * 0.25**2 / 2
    assert paper_vicreg(z1, z2) == close(literal)


def test_vicreg_covariance_is_a_sum_over_views_and_variance_a_mean():
    z = np.array([[0.0, 0.0, 0.0], [0.1, 0.2, 0.4]])
    invariance, variance, covariance_term = vicreg_terms(z, z)
    assert invariance == 0
    hinges = [1 - math.sqrt(v**2 / 2 + 1e-4) for v in (0.1, 0.2, 0.4)]
    assert variance == close(sum(hinges) / 3)
    off = (0.02 / 2) ** 2 + (0.04 / 2) ** 2 + (0.08 / 2) ** 2
    assert covariance_term == close(2 * (2 * off / 3))


def test_vicreg_of_wide_uncorrelated_equal_views_is_zero():
    assert vicreg(SQUARE, SQUARE) == close(0)
    assert vicreg_terms(SQUARE, SQUARE + 3) == (close(9), 0, close(0))


def test_vicreg_of_collapsed_features():
    z = np.full((6, 4), 2.0)
    assert vicreg_terms(z, z) == (0, close(1 - 0.01), 0)
    assert vicreg(z, z) == close(25 * 0.99)


def test_vicreg_pushes_a_small_variance_up_and_leaves_a_large_one():
    z = np.array([[0.1, 5.0], [-0.1, -5.0]])
    gradient = numerical_gradient(lambda a: vicreg_terms(a, z)[1], z)
    variance = 0.02 + 1e-4  # d/dx of -sqrt(variance) / 4: the variance's derivative is 2 x
    slope = -0.25 * 0.2 / (2 * math.sqrt(variance))
    np.testing.assert_allclose(gradient, [[slope, 0], [-slope, 0]], rtol=1e-6, atol=1e-9)


def test_the_gaussian_covariance_term_is_exact():
    factor = np.array([[1.0, 0.0], [0.5, 2.0]])
    expected = vicreg_covariance_of_gaussian(factor @ factor.T, 3)
    # S = [[1, 0.5], [0.5, 4.25]], n - 1 = 2, both off-diagonals alike, D = 2
    assert expected == close(0.25 + (0.25 + 4.25) / 2)

    def term(numbers):
        z = numbers.reshape(3, 2) @ factor.T
        return vicreg_terms(z, z)[2] / 2  # of one view

    assert gaussian_expectation(term, 6) == close(expected, 1e-10)
    assert vicreg_covariance_of_gaussian(np.eye(5), 9) == close(4 / 8)


def test_the_gaussian_invariance_term_is_exact():
    mean, factor = np.array([1.0, -2.0]), np.array([[1.0, 0.0], [0.5, 2.0]])
    expected = vicreg_invariance_of_gaussian(mean, factor @ factor.T)
    assert expected == close((5 + 1 + 4.25) / 2)

    def term(numbers):
        z = mean + numbers.reshape(2, 2) @ factor.T
        return vicreg_terms(z, np.zeros((2, 2)))[0]

    assert gaussian_expectation(term, 4) == close(expected, 1e-10)


def test_the_gaussian_variance_term_is_the_limit():
    population = np.diag([0.25, 9.0])
    expected = vicreg_variance_of_gaussian(population)
    assert expected == close((1 - math.sqrt(0.2501)) / 2)
    z = np.random.default_rng(0).normal(size=(4000, 2)) * np.array([0.5, 3.0])
    assert vicreg_terms(z, z)[1] == close(expected, 0.03)


# W-MSE


def test_whiten_by_hand():
    # mean (1, 2), covariance 4/3 [[1, 1], [1, 5]] = L L^T with L = sqrt(4/3) [[1, 0], [1, 2]]
    z = SQUARE @ np.array([[1.0, 1.0], [0.0, 2.0]]) + np.array([1.0, 2.0])
    np.testing.assert_allclose(whiten(z), SQUARE * math.sqrt(3 / 4), rtol=1e-12)


def test_whiten_gives_the_identity_and_is_triangular():
    z = np.random.default_rng(0).normal(size=(12, 4)) @ np.random.default_rng(1).normal(size=(4, 4))
    white = whiten(z)
    np.testing.assert_allclose(np.cov(white.T), np.eye(4), atol=1e-11)
    np.testing.assert_allclose(white.mean(axis=0), 0, atol=1e-12)
    changed = z.copy()
    changed[:, 2:] += np.random.default_rng(2).normal(size=(12, 2))
    np.testing.assert_allclose(whiten(changed)[:, :2], white[:, :2], atol=1e-12)
    assert np.abs(whiten(changed)[:, 2:] - white[:, 2:]).max() > 0.1


def test_whiten_agrees_with_a_library_factor():
    z = np.random.default_rng(3).normal(size=(9, 3))
    s = 0.75 * np.cov(z.T) + 0.25 * np.eye(3)
    expected = np.linalg.solve(np.linalg.cholesky(s), (z - z.mean(axis=0)).T).T
    np.testing.assert_allclose(whiten(z, 0.25), expected, atol=1e-12)


def test_whiten_with_epsilon_one_only_centres():
    z = np.random.default_rng(4).normal(size=(6, 2))
    np.testing.assert_allclose(whiten(z, 1.0), z - z.mean(axis=0), atol=1e-13)


def test_w_mse_of_equal_opposite_and_rotated_views():
    order = np.arange(4)[None]
    assert w_mse(np.stack([SQUARE, SQUARE]), order, 4) == close(0)
    assert w_mse(np.stack([SQUARE, -SQUARE]), order, 4) == close(4)
    turned = SQUARE @ np.array([[0.0, 1.0], [-1.0, 0.0]])
    assert w_mse(np.stack([SQUARE, turned]), order, 4) == close(2)


def test_w_mse_without_normalisation_is_the_mean_over_dimensions():
    order = np.arange(4)[None]
    views = np.stack([SQUARE, -SQUARE])  # whitened: times sqrt(3 / 4)
    assert w_mse(views, order, 4, normalize=False) == close(4 * 3 / 4)


def test_w_mse_is_the_mean_over_pairs():
    order = np.arange(4)[None]
    turned = SQUARE @ np.array([[0.0, 1.0], [-1.0, 0.0]])
    # pairs: 0 twice equal, 2 for each with a right angle, 4 for the opposite
    views = np.stack([SQUARE, SQUARE, -SQUARE, turned])
    assert w_mse(views, order, 4) == close((0 + 4 + 2 + 4 + 2 + 2) / 6)


def test_w_mse_whitens_each_view_by_itself():
    # a positive triangular change of one view is undone by its own whitening alone
    views = np.stack([SQUARE, SQUARE @ np.array([[3.0, 1.0], [0.0, 0.5]]) - 8])
    assert w_mse(views, np.arange(4)[None], 4) == close(0)


def test_w_mse_whitens_each_sub_batch_by_itself():
    z = np.concatenate([SQUARE, 5 * SQUARE + 100])
    plain = np.concatenate([SQUARE, SQUARE])
    views = np.stack([z, plain])
    together = np.arange(8)[None]
    mixed = np.array([[0, 1, 2, 4, 3, 5, 6, 7]])
    assert w_mse(views, together, 4) == close(0)
    assert w_mse(views, together, 8) > 0.1
    assert w_mse(views, mixed, 4) > 0.1


def test_w_mse_is_the_mean_over_iterations():
    generator = np.random.default_rng(5)
    views = generator.normal(size=(2, 8, 2))
    orders = np.array([generator.permutation(8) for _ in range(3)])
    singles = [w_mse(views, order[None], 4) for order in orders]
    assert max(singles) - min(singles) > 1e-3
    assert w_mse(views, orders, 4) == close(sum(singles) / 3)


def test_w_mse_does_not_depend_on_the_order_within_or_of_the_sub_batches():
    views = np.random.default_rng(6).normal(size=(2, 8, 2))
    a = np.array([[0, 3, 5, 7, 1, 2, 4, 6]])
    b = np.array([[4, 2, 6, 1, 7, 0, 5, 3]])
    assert w_mse(views, a, 4) == close(w_mse(views, b, 4))


# LeJEPA


def test_epps_pulley_on_three_knots_by_hand():
    # knots -1, 0, 1; at 0 the functions agree; both ends have weight 1/2 and are alike
    x = [math.pi / 2, math.pi]
    g = math.exp(-0.5)
    error = ((0 - 1) / 2 - g) ** 2 + ((1 + 0) / 2) ** 2
    assert epps_pulley(x, 1.0, 3) == close(2 * (2 * 0.5 * error * g))


def test_epps_pulley_of_zeros_in_closed_form():
    # (1 - g)^2 g, integrated: sqrt(2 pi) (1 - 2 / sqrt(2) + 1 / sqrt(3))
    expected = 7 * math.sqrt(2 * math.pi) * (1 - math.sqrt(2) + 1 / math.sqrt(3))
    assert epps_pulley_exact([0.0] * 7) == close(expected)
    assert epps_pulley([0.0] * 7, 12.0, 241) == close(expected, 1e-11)


def test_epps_pulley_converges_to_its_closed_form():
    x = np.random.default_rng(0).normal(loc=0.3, scale=1.7, size=12)
    exact = epps_pulley_exact(x)
    assert epps_pulley(x, 12.0, 241) == close(exact, 1e-10)
    assert epps_pulley(x, **SIGREG_PAPER) == close(exact, 1e-4)
    assert epps_pulley(x, **SIGREG_CODE) == close(exact, 0.02)


def test_the_code_s_half_line_is_the_whole_line_with_33_knots():
    x = np.random.default_rng(1).normal(size=9)
    step, total = 3 / 16, 0.0
    for k in range(17):
        t = k * step
        error = (np.cos(t * x).mean() - math.exp(-t * t / 2)) ** 2 + np.sin(t * x).mean() ** 2
        total += (step if k in (0, 16) else 2 * step) * error * math.exp(-t * t / 2)
    assert epps_pulley(x, **SIGREG_CODE) == close(9 * total)
    assert abs(epps_pulley(x, **SIGREG_PAPER) / (9 * total) - 1) > 1e-4


def test_epps_pulley_ignores_sign_and_order_but_neither_shift_nor_scale():
    x = np.random.default_rng(2).normal(size=8)
    value = epps_pulley(x, **SIGREG_PAPER)
    assert epps_pulley(-x[::-1], **SIGREG_PAPER) == close(value)
    assert epps_pulley(np.tile(x, 3), **SIGREG_PAPER) == close(3 * value)
    assert abs(epps_pulley(x + 1, **SIGREG_PAPER) - value) > 0.1
    assert abs(epps_pulley(4 * x, **SIGREG_PAPER) - value) > 0.1


def test_epps_pulley_is_small_at_the_quantiles_of_a_gaussian():
    x = np.array([NormalDist().inv_cdf((k + 0.5) / 50) for k in range(50)])
    assert epps_pulley_exact(x) < 0.01
    assert epps_pulley_exact(2 * x) > 3


@pytest.mark.parametrize(("mean", "variance"), [(0.0, 1.0), (0.5, 1.0), (-1.0, 0.25), (0.0, 3.0)])
def test_the_gaussian_expectation_of_epps_pulley(mean, variance):
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()
    # two samples: a double integral of the statistic itself
    total = 0.0
    for a, p in zip(nodes, weights, strict=True):
        for b, q in zip(nodes, weights, strict=True):
            x = mean + math.sqrt(variance) * np.array([a, b])
            total += p * q * epps_pulley_exact(x)
    assert epps_pulley_of_gaussian(mean, variance, 2) == close(total, 1e-8)


def test_the_floor_of_epps_pulley_does_not_depend_on_the_number_of_samples():
    floor = math.sqrt(2 * math.pi) * (1 - 1 / math.sqrt(3))
    for count in (1, 10, 1000):
        assert epps_pulley_of_gaussian(0.0, 1.0, count) == close(floor)
    assert floor == close(1.0594, 1e-4)
    assert epps_pulley_of_gaussian(1.0, 1.0, 1000) > 100


def test_sigreg_is_the_mean_over_the_columns():
    z = np.random.default_rng(3).normal(size=(6, 2)) * np.array([1.0, 3.0])
    directions = np.array([[1.0, 0.0, 0.6], [0.0, -1.0, 0.8]])
    parts = [z[:, 0], z[:, 1], 0.6 * z[:, 0] + 0.8 * z[:, 1]]
    expected = sum(epps_pulley(part, **SIGREG_PAPER) for part in parts) / 3
    assert sigreg(z, directions, **SIGREG_PAPER) == close(expected)


def test_sigreg_turns_with_the_features():
    z = np.random.default_rng(4).normal(size=(6, 3))
    directions = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
    expected = sigreg(z @ directions, np.eye(3), **SIGREG_CODE)
    assert sigreg(z, directions, **SIGREG_CODE) == close(expected, 1e-10)


def test_lejepa_prediction_by_hand():
    # one image, two dimensions: the centre of the first two views is (1, 0)
    views = np.array([[[0.0, 0.0]], [[2.0, 0.0]], [[1.0, 3.0]]])
    assert lejepa_prediction(views, 2) == close((1 + 1 + 9) / (3 * 2))
    # all three as global views: the centre is (1, 1)
    assert lejepa_prediction(views, 3) == close((2 + 2 + 4) / (3 * 2))


def test_lejepa_prediction_has_a_centre_for_each_image_and_can_be_zero():
    z = np.random.default_rng(6).normal(size=(5, 3))
    assert lejepa_prediction(np.stack([z, z, z]), 2) == close(0)
    assert lejepa_prediction(np.stack([z + 1, z - 1]), 2) == close(1)
    assert lejepa_prediction(np.stack([z, z + 2]), 1) == close(4 / 2)


def test_lejepa_prediction_moves_the_global_views_too():
    views = np.array([[[0.0]], [[2.0]], [[7.0]]])
    gradient = numerical_gradient(lambda v: lejepa_prediction(v, 2), views)
    # ((a - b)^2 / 2 + ((a + b) / 2 - l)^2) / 3
    expected = np.array([[[-2 - 6]], [[2 - 6]], [[12]]]) / 3
    np.testing.assert_allclose(gradient, expected, atol=1e-8)


def test_lejepa_tests_each_view_by_itself():
    generator = np.random.default_rng(7)
    views = generator.normal(size=(3, 5, 2))
    directions = np.array([[0.6], [0.8]])
    parts = [epps_pulley(z @ directions[:, 0], **SIGREG_PAPER) for z in views]
    expected = 0.95 * lejepa_prediction(views, 2) + 0.05 * sum(parts) / 3
    assert lejepa(views, 2, directions, 0.05, **SIGREG_PAPER) == close(expected)
    pooled = epps_pulley(views.reshape(15, 2) @ directions[:, 0], **SIGREG_PAPER)
    assert abs(pooled - sum(parts) / 3) > 0.01


def test_lejepa_of_collapsed_features_is_sigreg_alone():
    views = np.zeros((2, 6, 3))
    expected = 0.05 * epps_pulley([0.0] * 6, **SIGREG_CODE)
    assert lejepa(views, 2, np.eye(3), 0.05, **SIGREG_CODE) == close(expected)
