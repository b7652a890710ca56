"""The batch normalisation references, against cases that can be computed by hand."""

import math

import numpy as np
import pytest

from references.norm import batch_norm, shuffled_batch_norm


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-13)


def start(channels):
    return np.zeros(channels), np.ones(channels)


def test_batch_norm_of_two_rows_by_hand():
    x = np.array([[0.0, 5.0], [2.0, 5.0]])
    y, mean, var = batch_norm(x, np.array([1.0, -1.0]), np.array([4.0, 2.0]))
    unit = 1 / math.sqrt(1 + 1e-5)  # the biased variance of 0 and 2 is 1, the unbiased one 2
    close(y, [[-unit, 0], [unit, 0]])
    close(mean, [0.9 * 1 + 0.1 * 1, 0.9 * -1 + 0.1 * 5])
    close(var, [0.9 * 4 + 0.1 * 2, 0.9 * 2])


def test_groups_have_their_own_mean_and_variance():
    x = np.array([[0.0], [2.0], [10.0], [16.0]])
    y, mean, var = batch_norm(x, *start(1), groups=2, momentum=0.5, epsilon=0)
    close(y, [[-1], [1], [-1], [1]])
    close(mean, [0.5 * (1 + 13) / 2])
    close(var, [0.5 + 0.5 * (2 + 18) / 2])


def test_groups_of_rows_are_neighbours():
    x = np.array([[0.0], [1.0], [0.0], [1.0]])
    close(batch_norm(x, *start(1), groups=2, epsilon=0)[0], [[-1], [1], [-1], [1]])
    x = np.array([[0.0], [0.0], [1.0], [1.0]])
    close(batch_norm(x, *start(1), groups=2)[0], np.zeros((4, 1)))


def test_images_are_normalised_over_rows_and_positions():
    x = np.zeros((2, 2, 1, 2))
    x[:, 0] = [[[0, 2]], [[4, 6]]]  # mean 3, squares 9 + 1 + 1 + 9
    x[:, 1] = 7
    y, mean, var = batch_norm(x, *start(2), momentum=1, epsilon=0.25)
    close(y[:, 0], np.array([[[-3, -1]], [[1, 3]]]) / math.sqrt(5.25))
    close(y[:, 1], 0)
    close(mean, [3, 7])
    close(var, [20 / 3, 0])
    assert y.shape == x.shape


def test_images_in_groups_equal_each_group_alone():
    x = np.random.default_rng(0).normal(size=(6, 3, 2, 4))
    y, mean, var = batch_norm(x, *start(3), groups=3)
    alone = [batch_norm(x[i : i + 2], *start(3)) for i in (0, 2, 4)]
    close(y, np.concatenate([a[0] for a in alone]))
    close(mean, sum(a[1] for a in alone) / 3)
    close(var, sum(a[2] for a in alone) / 3)
    assert np.abs(y - batch_norm(x, *start(3))[0]).max() > 0.1


def test_a_batch_norm_of_a_column_equals_that_of_its_pixels():
    x = np.random.default_rng(1).normal(size=(4, 2, 3, 1))
    flat = x.transpose(0, 2, 3, 1).reshape(12, 2)
    y, mean, var = batch_norm(x, *start(2), groups=2)
    flat_y, flat_mean, flat_var = batch_norm(flat, *start(2), groups=2)
    close(y.transpose(0, 2, 3, 1).reshape(12, 2), flat_y)
    close(mean, flat_mean)
    close(var, flat_var)


@pytest.mark.parametrize("groups", [1, 2])
def test_shift_and_scale_of_a_channel_change_nothing(groups):
    x = np.random.default_rng(2).normal(size=(6, 3))
    y, mean, _ = batch_norm(x, *start(3), groups=groups, momentum=1, epsilon=0)
    again, moved, _ = batch_norm(5 * x + 3, *start(3), groups=groups, momentum=1, epsilon=0)
    np.testing.assert_allclose(again, y, rtol=1e-10)
    close(moved, 5 * mean + 3)


def test_the_shuffle_chooses_the_groups_and_is_undone():
    x = np.array([[0.0], [10.0], [2.0], [16.0]])  # groups {0, 2} and {3, 1}
    y, mean, var = shuffled_batch_norm(x, np.array([2, 0, 3, 1]), *start(1), 2, 1.0, 0.0)
    close(y, [[-1], [-1], [1], [1]])
    close(mean, [7])
    close(var, [(2 + 18) / 2])


def test_the_shuffle_takes_row_permutation_i_to_place_i():
    x = np.array([[0.0], [1.0], [10.0], [3.0], [7.0], [30.0]])
    permutation = np.array([1, 2, 4, 0, 3, 5])  # not its own inverse: groups {1, 2, 4}, {0, 3, 5}
    y, _, _ = shuffled_batch_norm(x, permutation, *start(1), 2, epsilon=0)
    first = np.array([1, 10, 7]) - 6.0
    second = np.array([0, 3, 30]) - 11.0
    close(y[[1, 2, 4], 0], first / math.sqrt(np.sum(first**2) / 3))
    close(y[[0, 3, 5], 0], second / math.sqrt(np.sum(second**2) / 3))


def test_the_identity_shuffle_and_one_group_are_plain():
    x = np.random.default_rng(3).normal(size=(6, 2, 2, 2))
    for one, other in zip(
        shuffled_batch_norm(x, np.arange(6), *start(2), 3),
        batch_norm(x, *start(2), groups=3),
        strict=True,
    ):
        close(one, other)
    for one, other in zip(
        shuffled_batch_norm(x, np.array([3, 1, 5, 0, 2, 4]), *start(2), 1),
        batch_norm(x, *start(2)),
        strict=True,
    ):
        close(one, other)
