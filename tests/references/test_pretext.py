"""The references of pretext tasks, against cases that can be computed by hand."""

import math

import numpy as np
import pytest

from references.pretext import (
    hamming,
    jigsaw_loss,
    relative_patch_loss,
    rotation_loss,
    smallest_distance,
)


def test_without_information_each_is_the_log_of_its_classes():
    assert rotation_loss(np.zeros((4, 3, 4))) == pytest.approx(math.log(4))
    features = np.zeros((2, 9, 3))
    order = np.array([range(9), range(8, -1, -1)])
    found = jigsaw_loss(features, order, np.array([0, 1]), lambda x: np.zeros(2))
    assert found == pytest.approx(math.log(2))
    found = relative_patch_loss(features, 3, lambda x: np.zeros(8))
    assert found == pytest.approx(math.log(8))


def test_rotation_scores_are_read_at_their_own_turn():
    scores = np.zeros((4, 1, 4))
    scores[1, 0, 1] = math.log(5)  # right: 5 / 8
    scores[2, 0, 3] = math.log(5)  # wrong: 1 / 8
    expected = (2 * math.log(4) + math.log(8 / 5) + math.log(8)) / 4
    assert rotation_loss(scores) == pytest.approx(expected)


def test_a_solver_that_sees_the_order_is_right():
    order = np.array([[0, 1, 2], [2, 0, 1]])
    tiles = np.array([[[10.0], [11.0], [12.0]]])

    def solver(x):
        return 100.0 * np.array([list(x) == [10, 11, 12], list(x) == [12, 10, 11]])

    for label in (0, 1):
        assert jigsaw_loss(tiles, order, np.array([label]), solver) == pytest.approx(0)


def test_hamming_distances():
    assert hamming(np.array([0, 1, 2]), np.array([0, 2, 1])) == 2
    assert smallest_distance(np.array([[0, 1, 2, 3], [1, 0, 3, 2], [1, 0, 2, 3]])) == 2


def test_a_head_that_sees_the_places_is_right():
    places = np.array([[[row, column] for row in range(3) for column in range(3)]], dtype=float)
    seen = []

    def head(x):
        down, right = x[2:] - x[:2]
        # by angle: up-left, up, up-right, left, right, down-left, down, down-right
        found = {(-1, -1): 0, (-1, 0): 1, (-1, 1): 2, (0, -1): 3}
        found |= {(0, 1): 4, (1, -1): 5, (1, 0): 6, (1, 1): 7}
        seen.append(found[down, right])
        return 100.0 * np.eye(8)[seen[-1]]

    assert relative_patch_loss(places, 3, head) == pytest.approx(0)
    assert np.bincount(seen).tolist() == [4, 6, 4, 6, 6, 4, 6, 4]
