"""The references of self-distillation themselves, against cases that can be computed by hand."""

import math

import numpy as np
import pytest

from references.clusters import sinkhorn
from references.contrastive import numerical_gradient
from references.distillation import (
    cosine_momentum,
    data2vec_loss,
    data2vec_targets,
    dino_loss,
    dino_targets,
    ibot_loss,
    ijepa_loss,
    ijepa_momentum,
    instance_norm,
    koleo_loss,
    layer_norm,
    linear_momentum,
    negative_cosine,
    patch_loss,
    simsiam_loss,
    sinkhorn_targets,
    smooth_l1,
    standardize,
    teacher_temperature,
    update_center,
)
from references.regression import cosine_regression


def close(value, relative=1e-12, absolute=1e-14):
    return pytest.approx(value, rel=relative, abs=absolute)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def binary_cross_entropy(q, p):
    return -q * math.log(p) - (1 - q) * math.log(1 - p)


@pytest.mark.parametrize(
    ("p", "z", "expected"), [((2, 0), (5, 0), -1.0), ((1, 0), (0, 3), 0.0), ((1, 0), (-2, 0), 1.0)]
)
def test_negative_cosine_by_angle(p, z, expected):
    assert negative_cosine(np.array([p]), np.array([z])) == close(expected)


def test_negative_cosine_is_the_mean_over_the_batch():
    p, z = np.array([[1.0, 0.0], [1.0, 0.0]]), np.array([[1.0, 1.0], [0.0, 1.0]])
    assert negative_cosine(p, z) == close(-math.sqrt(0.5) / 2)


def test_simsiam_crosses_the_views():
    east, north = np.array([[3.0, 0.0]]), np.array([[0.0, 2.0]])
    assert simsiam_loss(p1=east, p2=north, z1=north, z2=east) == close(-1)
    assert simsiam_loss(p1=east, p2=north, z1=east, z2=north) == close(0)
    assert simsiam_loss(p1=east, p2=east, z1=north, z2=east) == close(-0.5)


def test_simsiam_is_byol_on_another_scale():
    p1, p2, z1, z2 = np.random.default_rng(0).normal(size=(4, 5, 3))
    byol = cosine_regression(p1, z2) + cosine_regression(p2, z1)
    assert byol == close(4 + 4 * simsiam_loss(p1, p2, z1, z2))


def test_dino_targets_by_hand():
    teacher = np.array([[1.0 + 0.04 * math.log(3), -2.0]])
    targets = dino_targets(teacher, np.array([1.0, -2.0]), 0.04)
    np.testing.assert_allclose(targets, [[0.75, 0.25]], rtol=1e-12)


def test_dino_targets_equal_to_the_center_are_uniform():
    center = np.array([5.0, -1.0, 2.0])
    targets = dino_targets(np.tile(center, (2, 4, 1)), center, 0.04)
    np.testing.assert_allclose(targets, np.full((2, 4, 3), 1 / 3))


def test_dino_loss_of_a_flat_student_is_the_log_of_the_outputs():
    targets = dino_targets(np.random.default_rng(0).normal(size=(2, 3, 7)), np.zeros(7), 0.04)
    assert dino_loss(np.zeros((5, 3, 7)), targets) == close(math.log(7))


def test_dino_loss_leaves_out_the_same_view():
    targets = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    x = 0.1 * math.log(3)  # softmax(x / 0.1, 0) = 3/4, 1/4
    student = np.array([[[0.0, x]], [[x, 0.0]], [[0.0, 0.0]]])
    # pairs: target 0 with views 1, 2; target 1 with views 0, 2
    expected = (math.log(4 / 3) + math.log(2) + math.log(4 / 3) + math.log(2)) / 4
    assert dino_loss(student, targets) == close(expected)
    same = (math.log(4) + math.log(2)) / 2  # with the views exchanged every pair is wrong
    assert dino_loss(student[[1, 0, 2]], targets) == close(same)


def test_dino_loss_is_least_where_the_student_has_the_teachers_distribution():
    generator = np.random.default_rng(0)
    teacher = np.tile(generator.normal(size=(1, 3, 4)), (2, 1, 1))
    targets = dino_targets(teacher, np.zeros(4), 0.5)
    student = teacher * 0.1 / 0.5
    entropy = -np.sum(targets * np.log(targets)) / 6
    assert dino_loss(student, targets, 0.1) == close(entropy)
    gradient = numerical_gradient(lambda s: dino_loss(s, targets, 0.1), student)
    np.testing.assert_allclose(gradient, 0, atol=1e-8)
    assert dino_loss(student + generator.normal(size=student.shape), targets, 0.1) > entropy + 1e-2


def test_center_moves_by_a_tenth_of_the_mean_over_views_and_batch():
    teacher = np.array([[[1.0, 0.0], [3.0, 0.0]], [[5.0, 4.0], [7.0, 4.0]]])
    np.testing.assert_allclose(update_center(np.array([1.0, 1.0]), teacher), [1.3, 1.1])


def test_center_converges_to_the_mean():
    teacher, center = np.array([[1.0, -2.0], [3.0, 4.0]]), np.zeros(2)
    for _ in range(400):
        center = update_center(center, teacher)
    np.testing.assert_allclose(center, [2, 1])


def test_teacher_temperature_at_its_corners():
    warm = [teacher_temperature(epoch, 0.04, 0.07, 4) for epoch in range(6)]
    assert warm == [close(t) for t in (0.04, 0.05, 0.06, 0.07, 0.07, 0.07)]
    assert teacher_temperature(0, 0.04, 0.07, 0) == 0.07
    assert [teacher_temperature(epoch, 0.04, 0.07, 1) for epoch in (0, 1)] == [0.04, 0.07]
    late = [teacher_temperature(epoch, 0.04, 0.07, 2, first_epoch=3) for epoch in range(6)]
    assert late == [close(t) for t in (0.04, 0.04, 0.04, 0.04, 0.07, 0.07)]


def test_cosine_momentum_at_its_ends_and_middle():
    values = [cosine_momentum(step, 100) for step in (0, 50, 100, 130)]
    assert values == [close(m) for m in (0.996, 0.998, 1, 1)]
    assert cosine_momentum(25, 100, 0.9) == close(1 - 0.1 * (1 + math.sqrt(0.5)) / 2)
    assert cosine_momentum(99, 100) < 1


def test_patch_loss_counts_masked_patches_image_by_image():
    x = 0.1 * math.log(3)
    good, bad, flat = [x, 0.0], [0.0, x], [0.0, 0.0]
    student = np.array([[[good, bad, good], [bad, flat, good]]])  # one view, two images
    targets = np.tile([1.0, 0.0], (1, 2, 3, 1))
    mask = np.array([[[True, False, True], [True, True, False]]])
    first, second = math.log(4 / 3), (math.log(4) + math.log(2)) / 2
    assert patch_loss(student, targets, mask) == close((first + second) / 2)
    mask = np.array([[[False, False, False], [True, False, False]]])
    assert patch_loss(student, targets, mask) == close((0 + math.log(4)) / 2)
    mask = np.array([[[True, True, True], [True, False, False]]])  # not the mean over four patches
    first = (2 * math.log(4 / 3) + math.log(4)) / 3
    assert patch_loss(student, targets, mask) == close((first + math.log(4)) / 2)


def test_patch_loss_compares_a_view_with_itself():
    x = 0.1 * math.log(3)
    student = np.array([[[[x, 0.0]]], [[[0.0, x]]]])
    targets = np.array([[[[1.0, 0.0]]], [[[0.0, 1.0]]]])
    assert patch_loss(student, targets, np.ones((2, 1, 1), dtype=bool)) == close(math.log(4 / 3))


def test_ibot_loss_by_hand():
    a, t_cls, t_patch = 0.05, 0.04, 0.07
    teacher_cls = np.array([[[a + 1, 0.0]], [[a + 1, 0.0]]])
    teacher_patches = np.array([[[[a, 3.0]]], [[[a, 3.0]]]])
    loss = ibot_loss(
        student_cls=np.array([[[0.2, 0.0]]] * 3),
        student_patches=np.array([[[[0.1, 0.0]]], [[[0.1, 0.0]]]]),
        teacher_cls=teacher_cls,
        teacher_patches=teacher_patches,
        mask=np.array([[[True]], [[False]]]),
        centers=(np.array([1.0, 0.0]), np.array([0.0, 3.0])),
        temperatures=(t_cls, t_patch),
        weights=(1.0, 0.5),
    )
    cls = binary_cross_entropy(sigmoid(a / t_cls), sigmoid(2.0))
    patches = binary_cross_entropy(sigmoid(a / t_patch), sigmoid(1.0)) / 2
    assert loss == close(cls + 0.5 * patches)


def test_koleo_of_orthogonal_features():
    assert koleo_loss(np.diag([1.0, 2.0, 0.1, 7.0])) == close(-math.log(math.sqrt(2)), 1e-7)


def test_koleo_by_angles_takes_the_nearest_neighbour():
    angles = np.radians([0, 60, 150])
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1) * np.array([[1], [5], [0.2]])
    first, third = 2 * math.sin(math.radians(30)), 2 * math.sin(math.radians(45))
    assert koleo_loss(features) == close(-(2 * math.log(first) + math.log(third)) / 3, 1e-7)


def test_koleo_of_equal_rows_is_bounded_by_epsilon():
    # the difference is epsilon in each of four components, its length 2 epsilon; plus epsilon
    assert koleo_loss(np.ones((3, 4))) == close(-math.log(3e-8))
    assert koleo_loss(np.ones((3, 4)), 1e-4) == close(-math.log(3e-4))


def test_koleo_of_two_opposite_rows_is_of_their_distance():
    assert koleo_loss(np.array([[1.0, 0.0], [-3.0, 0.0]])) == close(-math.log(2), 1e-7)


def test_koleo_pushes_neighbours_apart():
    features = np.array([[1.0, 0.1], [1.0, -0.1], [-1.0, 0.0]])
    gradient = numerical_gradient(koleo_loss, features)
    assert gradient[0, 1] < -1 < 1 < gradient[1, 1]  # a step down the gradient widens the angle


def test_sinkhorn_targets_take_all_views_together():
    a, t = 0.1, 0.05
    teacher = np.array([[[a, 0.0]], [[0.0, a]]])  # each view alone would give one half
    q = sigmoid(a / t)
    np.testing.assert_allclose(sinkhorn_targets(teacher, t), [[[q, 1 - q]], [[1 - q, q]]])


def test_sinkhorn_targets_are_codes_at_the_teachers_temperature():
    teacher = np.random.default_rng(0).normal(size=(2, 3, 4))
    targets = sinkhorn_targets(teacher, 0.07)
    np.testing.assert_allclose(targets.reshape(6, 4), sinkhorn(teacher.reshape(6, 4), 0.07, 3))
    np.testing.assert_allclose(targets.sum(axis=-1), 1)


def test_standardize_by_hand():
    values = standardize(np.array([1.0, 3.0]))
    np.testing.assert_allclose(values, np.array([-1, 1]) / math.sqrt(1 + 1e-5), rtol=1e-14)
    assert standardize(np.full(3, 7.0)).tolist() == [0, 0, 0]


def test_layer_norm_goes_over_features_and_instance_norm_over_tokens():
    tokens = np.array([[[0.0, 2.0], [10.0, 14.0]], [[5.0, 1.0], [5.0, 3.0]]])
    r = 1 / math.sqrt(1 + 1e-5)
    s = 2 / math.sqrt(4 + 1e-5)
    np.testing.assert_allclose(layer_norm(tokens), [[[-r, r], [-s, s]], [[s, -s], [r, -r]]])
    five, six = 5 / math.sqrt(25 + 1e-5), 6 / math.sqrt(36 + 1e-5)
    np.testing.assert_allclose(
        instance_norm(tokens), [[[-five, -six], [five, six]], [[0, -r], [0, r]]]
    )


def test_data2vec_targets_are_the_mean_of_the_last_blocks():
    blocks = [np.full((1, 2, 3), value) for value in (1e9, 1.0, 5.0)]
    np.testing.assert_allclose(data2vec_targets(blocks, 2, "none"), np.full((1, 2, 3), 3))
    np.testing.assert_allclose(data2vec_targets(blocks, 1, "none"), np.full((1, 2, 3), 5))


def test_data2vec_targets_normalise_before_the_mean():
    blocks = [np.array([[[0.0, 2.0]]]), np.array([[[0.0, 2000.0]]]), np.array([[[2.0, 0.0]]])]
    targets = data2vec_targets(blocks, 3, "layer")  # (-1, 1), (-1, 1), (1, -1)
    np.testing.assert_allclose(targets, [[[-1 / 3, 1 / 3]]], rtol=1e-4)
    again = data2vec_targets(blocks, 3, "layer", "layer")
    np.testing.assert_allclose(again, [[[-1, 1]]], rtol=1e-4)
    alone = data2vec_targets(blocks, 3, "instance")  # one token: nothing to compare it with
    np.testing.assert_array_equal(alone, np.zeros((1, 1, 2)))


def test_data2vec_targets_do_not_change_with_the_scale_of_a_block():
    blocks = np.random.default_rng(0).normal(size=(3, 2, 5, 4))
    scaled = blocks * np.array([1.0, 30.0, 7.0]).reshape(3, 1, 1, 1)
    for norm in ("layer", "instance"):
        expected = data2vec_targets(list(blocks), 3, norm)
        np.testing.assert_allclose(data2vec_targets(list(scaled), 3, norm), expected, atol=1e-3)
    assert np.abs(data2vec_targets(list(scaled), 3, "none")).max() > 5


@pytest.mark.parametrize(
    ("error", "beta", "expected"),
    [(1.0, 2.0, 0.25), (-2.0, 2.0, 1.0), (5.0, 2.0, 4.0), (-3.0, 1.0, 2.5), (0.5, 1.0, 0.125)],
)
def test_smooth_l1_by_hand(error, beta, expected):
    assert smooth_l1(error, beta) == close(expected)


def test_data2vec_loss_counts_masked_positions_alike():
    targets = np.zeros((2, 3, 4))
    prediction = np.full((2, 3, 4), 1e9)
    mask = np.zeros((2, 3), dtype=bool)
    for (b, n), value in {(0, 0): 1.0, (0, 2): 2.0, (1, 1): 6.0}.items():
        mask[b, n], prediction[b, n] = True, value
    assert data2vec_loss(prediction, targets, mask) == close((1 + 4 + 36) / 3)
    assert data2vec_loss(prediction, targets, mask, beta=2.0) == close((0.25 + 1 + 5) / 3)
    for over_features, factor in {"sum": 4, "root": 2}.items():
        loss = data2vec_loss(prediction, targets, mask, None, over_features)
        assert loss == close(factor * (1 + 4 + 36) / 3)


def test_linear_momentum_at_its_ends_and_middle():
    values = [linear_momentum(u, 0.999, 0.9999, 30000) for u in (0, 15000, 30000, 99999)]
    assert values == [close(m) for m in (0.999, 0.99945, 0.9999, 0.9999)]
    assert linear_momentum(0, 0.999, 0.9998, 0) == 0.9998


def test_ijepa_loss_gathers_the_targets_of_each_block():
    teacher = np.arange(8.0).reshape(1, 4, 2)  # patches (0, 1), (2, 3), (4, 5), (6, 7)
    blocks = [np.array([[3, 0]]), np.array([[1]])]
    exact = [np.array([[[6.0, 7.0], [0.0, 1.0]]]), np.array([[[2.0, 3.0]]])]
    assert ijepa_loss(exact, teacher, blocks, normalize=False) == 0
    off = [exact[0] + np.array([3.0, 0.5]), exact[1] + 1]
    options = {"predictions": off, "teacher": teacher, "blocks": blocks, "normalize": False}
    assert ijepa_loss(**options) == close(((2.5 + 0.125) / 2 + 0.5) / 2)
    assert ijepa_loss(**options, distance="l2") == close(((9 + 0.25) / 2 + 1) / 2)
    assert ijepa_loss(**options, distance="paper") == close((2 * (9 + 0.25) + 2) / 2)


def test_ijepa_loss_is_the_mean_over_images():
    teacher = np.zeros((2, 3, 1))
    prediction = [np.array([[[1.0]], [[3.0]]])]
    blocks = [np.array([[0], [2]])]
    assert ijepa_loss(prediction, teacher, blocks, "l2") == close(5)
    assert ijepa_loss(prediction, teacher, blocks, "paper") == close(5)


def test_ijepa_targets_are_normalised_over_features():
    teacher = np.array([[[0.0, 2.0], [50.0, 10.0]]])
    prediction = [np.array([[[1.0, -1.0]]])]
    assert ijepa_loss(prediction, teacher, [np.array([[1]])]) == close(0, absolute=1e-12)
    assert ijepa_loss(prediction, teacher, [np.array([[0]])]) == close(1.5, 1e-5)
    assert ijepa_loss(prediction, teacher, [np.array([[0]])], "l2") == close(4, 1e-4)


def test_ijepa_momentum_is_linear():
    values = [ijepa_momentum(step, 100) for step in (0, 25, 50, 100, 120)]
    assert values == [close(m) for m in (0.996, 0.997, 0.998, 1, 1)]
