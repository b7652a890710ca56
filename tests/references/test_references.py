"""The references themselves, against cases that can be computed by hand."""

import math

import numpy as np
import pytest

from references.contrastive import nt_xent, numerical_gradient
from references.masked import (
    hog,
    mae_loss,
    maskfeat_loss,
    patchify,
    simmim_loss,
    sincos_position,
    unit_mask,
)
from references.optim import adamw_step, larc_step, lars_step, warmup_cosine
from references.regression import byol_momentum, cosine_regression, ema
from references.sequence import token_loss
from references.spectrum import alpha, feature_std, mean_cosine, rankme


def close(value, relative=1e-12, absolute=1e-14):
    return pytest.approx(value, rel=relative, abs=absolute)


def test_nt_xent_of_orthogonal_pairs():
    z = np.eye(5, 7)
    expected = math.log(math.exp(1 / 0.5) + 8) - 1 / 0.5
    assert nt_xent(3 * z, 0.1 * z, 0.5) == close(expected)


def test_nt_xent_of_collapsed_features_is_the_log_of_the_candidates():
    assert nt_xent(np.ones((6, 3)), np.ones((6, 3)), 0.07) == close(math.log(11))


def test_nt_xent_of_one_pair_is_zero():
    assert nt_xent(np.array([[1.0, 0.0]]), np.array([[0.3, -2.0]]), 0.1) == close(0)


def test_nt_xent_of_four_vectors_by_hand():
    s = math.sqrt(3) / 2
    z1 = np.array([[1.0, 0.0], [0.0, 1.0]])
    z2 = np.array([[0.5, s], [0.0, 1.0]])

    def anchor(positive, *negatives):
        return -positive + math.log(math.exp(positive) + sum(map(math.exp, negatives)))

    expected = (anchor(0.5, 0, 0) + anchor(1, 0, s) + anchor(0.5, s, s) + anchor(1, 0, s)) / 4
    assert nt_xent(z1, z2, 1.0) == close(expected)


def test_nt_xent_survives_a_tiny_temperature():
    assert nt_xent(np.eye(3), np.eye(3), 1e-4) == close(0)


def test_numerical_gradient_of_a_polynomial():
    x = np.array([[1.0, -2.0, 0.5], [3.0, 0.0, 1.0]])
    gradient = numerical_gradient(lambda a: float(np.sum(a**3) + a[0, 0] * a[1, 2]), x)
    expected = 3 * x**2
    expected[0, 0] += x[1, 2]
    expected[1, 2] += x[0, 0]
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-8)


def test_nt_xent_does_not_change_with_the_length_of_a_vector():
    generator = np.random.default_rng(0)
    z1, z2 = generator.normal(size=(2, 4, 3))
    gradient = numerical_gradient(lambda z: nt_xent(z, z2, 0.5), z1)
    assert np.abs(gradient).max() > 1e-2
    np.testing.assert_allclose(np.sum(gradient * z1, axis=1), 0, atol=1e-9)


@pytest.mark.parametrize(
    ("p", "z", "expected"),
    [((2, 0), (5, 0), 0.0), ((1, 0), (0, 3), 2.0), ((1, 0), (-2, 0), 4.0), ((1, 1), (1, 0), None)],
)
def test_cosine_regression_by_angle(p, z, expected):
    expected = 2 - math.sqrt(2) if expected is None else expected
    assert cosine_regression(np.array([p]), np.array([z])) == close(expected)


def test_cosine_regression_is_the_mean_over_the_batch():
    p, z = np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[1.0, 0.0], [-1.0, 0.0]])
    assert cosine_regression(p, z) == close(2.0)


def test_byol_momentum_at_its_ends_and_middle():
    assert byol_momentum(0, 100) == close(0.996)
    assert byol_momentum(50, 100) == close(0.998)
    assert byol_momentum(25, 100, base=0.9) == close(1 - 0.1 * (math.sqrt(0.5) + 1) / 2)
    assert byol_momentum(100, 100) == byol_momentum(130, 100) == close(1.0)


def test_ema_stays_near_the_target():
    np.testing.assert_allclose(ema(np.array([1.0, 2.0]), np.array([3.0, 0.0]), 0.9), [1.2, 1.8])


def test_patchify_keeps_pixels_in_rows_and_channels_last():
    row, column = np.mgrid[0:4, 0:6]
    x = np.stack([10 * row + column, 100 + 10 * row + column])[None]  # (1, 2, 4, 6)
    patches = patchify(x, 2)
    assert patches.shape == (1, 6, 8)
    assert patches[0, 1].tolist() == [2, 102, 3, 103, 12, 112, 13, 113]
    assert patches[0, 3].tolist() == [20, 120, 21, 121, 30, 130, 31, 131]


def test_mae_loss_counts_hidden_patches_only():
    patches = np.array([[[1.0, 2.0], [1e9, 1e9], [3.0, 5.0]], [[1e9, 1e9], [0.0, 1.0], [4.0, 4.0]]])
    prediction = np.array([[[3.0, 3.0], [1.0, 2.0]], [[0.0, 1.0], [4.0, 2.0]]])
    hidden = np.array([[2, 0], [1, 2]])
    assert mae_loss(prediction, patches, hidden, False) == close((4 / 2 + 0 + 0 + 4 / 2) / 4)


def test_mae_loss_normalises_by_the_unbiased_variance():
    patches = np.array([[[0.0, 2.0]]])
    zero = np.zeros((1, 1, 2))
    assert mae_loss(zero, patches, np.array([[0]]), True) == close(1 / (2 + 1e-6))
    assert mae_loss(zero, 0 * patches + 7, np.array([[0]]), True) == 0


def test_sincos_position_puts_columns_first_and_sines_before_cosines():
    table = sincos_position(8, 2)
    sines, cosines = [math.sin(1), math.sin(0.01)], [math.cos(1), math.cos(0.01)]
    still = [0, 0, 1, 1]
    np.testing.assert_allclose(table[0], still + still)
    np.testing.assert_allclose(table[1], sines + cosines + still)
    np.testing.assert_allclose(table[2], still + sines + cosines)
    np.testing.assert_allclose(table[3], (sines + cosines) * 2)


def test_lars_on_a_scalar():
    w, v = lars_step(2.0, -3.0, 0.5, learning_rate=0.1, weight_decay=0.5)
    assert v == close(0.9 * 0.5 + 0.001 * -2)  # g = -3 + 0.5 * 2 = -2; ratio = 0.001 * 2 / 2
    assert w == close(2 - 0.1 * (0.45 - 0.002))


def test_lars_adds_the_decay_before_it_takes_the_norm():
    weight, gradient = np.array([3.0, 4.0]), np.array([2.0, 0.0])
    _, v = lars_step(weight, gradient, 0.0, learning_rate=1, weight_decay=1, eta=0.1)  # g = (5, 4)
    np.testing.assert_allclose(v, 0.1 * 5 / math.sqrt(41) * np.array([5, 4]))


def test_lars_keeps_its_trust_ratio_without_weight_decay():
    weight, gradient = np.array([3.0, 4.0]), np.array([0.0, 2.0])
    w, v = lars_step(weight, gradient, np.zeros(2), learning_rate=1.0, eta=0.01)
    np.testing.assert_allclose(v, [0, 0.05])
    np.testing.assert_allclose(w, [3, 3.95])


def test_lars_step_does_not_depend_on_the_size_of_the_gradient():
    weight, gradient = np.array([3.0, 4.0]), np.array([1.0, 2.0])
    steps = [lars_step(weight, c * gradient, 0.0, learning_rate=1.0)[0] for c in (1, 1e-6)]
    np.testing.assert_allclose(steps[0], steps[1], rtol=1e-14)


def test_lars_excluded_is_plain_momentum():
    w, v = lars_step(2.0, 3.0, 1.0, learning_rate=0.1, weight_decay=0.5, excluded=True)
    assert (w, v) == (close(2 - 0.39), close(3.9))


def test_larc_on_a_scalar():
    w, v = larc_step(2.0, -3.0, 0.5, learning_rate=0.1, weight_decay=0.5, eps=0.0)
    assert v == close(0.9 * 0.5 + 0.001 * 2 / (3 + 1) * -2)  # g = -3 + 0.5 * 2
    assert w == close(2 - 0.1 * v)
    assert larc_step(2.0, 0.0, 0.0, learning_rate=1.0, weight_decay=0.5) == (2, 0)


@pytest.mark.parametrize(("weight", "gradient"), [(0.0, 3.0), (2.0, 0.0)])
def test_lars_ratio_is_one_at_zero_norm(weight, gradient):
    w, v = lars_step(weight, gradient, 1.0, learning_rate=0.1)
    assert (w, v) == (close(weight - 0.1 * (0.9 + gradient)), close(0.9 + gradient))


def test_lars_variants_differ_only_while_the_learning_rate_changes():
    def two_steps(rates, classic):
        w, v = 2.0, 0.0
        for rate in rates:
            w, v = lars_step(w, 3.0, v, learning_rate=rate, eta=0.1, classic_momentum=classic)
        return w

    # first step: ratio = 0.1 * 2 / 3, v = 0.2, w = 2 - 0.2 * rate; second: 0.1 * w is added to v
    assert two_steps((1.0, 1.0), False) == close(1.8 - (0.18 + 0.18))
    assert two_steps((1.0, 1.0), True) == close(1.8 - (0.18 + 0.18))
    assert two_steps((1.0, 0.5), False) == close(1.8 - 0.5 * (0.18 + 0.18))
    assert two_steps((1.0, 0.5), True) == close(1.8 - (0.18 + 0.5 * 0.18))


def test_warmup_cosine_at_its_corners():
    rates = [warmup_cosine(step, 110, 10, 4.0) for step in (0, 5, 10, 60, 110, 200)]
    assert rates == [close(rate) for rate in (0, 2, 4, 2, 0, 0)]
    assert warmup_cosine(35, 110, 10, 4.0) == close(2 * (1 + math.sqrt(0.5)))
    assert warmup_cosine(0, 10, 0, 4.0) == close(4.0)


def test_adamw_first_step_goes_by_the_sign():
    weight, gradient = np.array([2.0, -1.0]), np.array([5.0, -0.01])
    w, _, _ = adamw_step(weight, gradient, 0.0, 0.0, 1, learning_rate=0.1, weight_decay=0.3)
    expected = weight - 0.1 * (gradient / (np.abs(gradient) + 1e-8) + 0.3 * weight)
    np.testing.assert_allclose(w, expected)


def test_adamw_second_step_by_hand():
    options = {"learning_rate": 0.1, "betas": (0.9, 0.95), "weight_decay": 0.0, "epsilon": 0.0}
    w, first, second = adamw_step(1.0, 1.0, 0.0, 0.0, 1, **options)
    w, first, second = adamw_step(w, 0.0, first, second, 2, **options)
    assert (first, second) == (close(0.09), close(0.0475))
    assert w == close(0.9 - 0.1 * (0.09 / 0.19) / math.sqrt(0.0475 / 0.0975))


def test_rankme_of_known_spectra():
    assert rankme(np.eye(9, 6)) == close(6, relative=1e-5)
    p = (0.75 + 1e-7, 0.25 + 1e-7)
    expected = math.exp(-sum(value * math.log(value) for value in p))
    assert rankme(np.diag([3.0, 1.0])) == close(expected)


def test_rankme_sees_total_collapse_because_it_does_not_centre():
    noise = 1e-6 * np.random.default_rng(0).normal(size=(200, 16))
    assert rankme(np.ones((200, 16)) + noise) < 1.01
    assert rankme(noise) > 15


def test_rankme_does_not_change_with_scale():
    Z = np.random.default_rng(0).normal(size=(40, 8))
    assert rankme(1000 * Z) == close(rankme(Z))


def test_feature_std_of_isotropic_and_of_collapsed_features():
    both_ways = np.concatenate([np.eye(5), -3 * np.eye(5)])
    assert feature_std(both_ways) == close(1.0)
    assert feature_std(np.outer(np.arange(1, 9), [3.0, 4.0])) == close(0.0)


def test_mean_cosine_by_hand():
    assert mean_cosine(np.eye(4)) == close(0)
    assert mean_cosine(np.outer([1.0, 2.0, 3.0], [3.0, 4.0])) == close(1)
    assert mean_cosine(np.array([[1.0, 0.0], [2.0, 0.0], [-1.0, 0.0]])) == close(-1 / 3)


def test_mean_cosine_equals_its_closed_form():
    Z = np.random.default_rng(0).normal(loc=0.5, size=(30, 6))
    u = Z / np.linalg.norm(Z, axis=1, keepdims=True)
    expected = (np.sum(u.sum(axis=0) ** 2) - 30) / (30 * 29)
    assert mean_cosine(Z) == close(expected)


def test_hidden_units_of_four_patches():
    noise = np.array([0.9, 0.1, 0.5, 0.3])
    mask = unit_mask(noise, grid=4, unit=2, ratio=0.3).reshape(4, 4)
    expected = np.zeros((4, 4), dtype=bool)
    expected[:2, 2:] = expected[2:, 2:] = True  # units 1 and 3, since 1.2 of 4 are rounded up
    np.testing.assert_array_equal(mask, expected)


def test_hog_of_ramps_has_one_orientation():
    row, column = np.meshgrid(np.arange(6.0), np.arange(6.0), indexing="ij")
    inner = hog(column, 2, 9)[1, 1]  # along a row: 90 degrees, the middle of the fifth bin
    np.testing.assert_array_equal(inner, np.eye(9)[4])
    np.testing.assert_array_equal(hog(row, 2, 9)[1, 1], np.eye(9)[0])
    np.testing.assert_array_equal(hog(row + column, 2, 9)[1, 1], np.eye(9)[2])
    np.testing.assert_array_equal(hog(0 * row, 2, 9), np.zeros((3, 3, 9)))


def test_the_loss_of_an_image_that_is_wrong_by_two_where_it_is_hidden():
    images, mask = np.zeros((1, 3, 4, 4)), np.array([[True, False, False, True]])
    painted = np.full((1, 3, 4, 4), 2.0)
    painted[:, :, :2, 2:] = 100
    assert simmim_loss(painted, images, mask, 2) == close(2)
    prediction = np.array([[[2.0], [9.0], [9.0], [4.0]]])
    assert maskfeat_loss(prediction, np.zeros((1, 4, 1)), mask) == close(10)


def test_the_loss_of_tokens_that_are_equally_likely_is_the_log_of_their_number():
    assert token_loss(np.full((3, 7), 2.5), np.array([0, 6, 3])) == close(math.log(7))
    assert token_loss(np.array([[0.0, math.log(3)]]), np.array([1])) == close(math.log(4 / 3))


def test_alpha_of_a_power_law_from_rank_11_to_100():
    rank = np.arange(1, 151.0)
    spread = np.where((rank > 10) & (rank <= 100), rank**-1.3, np.where(rank > 100, 1e-5, 3.0))
    left = np.random.default_rng(0).normal(size=(300, 150))
    left = np.linalg.qr(left - left.mean(0))[0]
    assert alpha(left * np.sqrt(spread)) == close(1.3, relative=1e-9)
