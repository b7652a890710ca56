"""The references of instance discrimination, against cases that can be computed by hand."""

import math

import numpy as np
import pytest

from references.contrastive import numerical_gradient, unit
from references.instance import (
    amdim_loss,
    amdim_nce,
    bank_update,
    cpc_loss,
    cpc_offset_loss,
    cpc_score,
    distillation,
    distillation_with_labels,
    instdisc_constant,
    instdisc_nce,
    instdisc_proximal,
    instdisc_softmax,
    moco_info_nce,
    moco_v3_contrast,
    moco_v3_loss,
    nearest,
    nnclr_direction,
    nnclr_loss,
    patch_probabilities,
    pirl_loss,
    queue_push,
    softmax_cross_entropy,
)

E1, E2 = np.array([1.0, 0.0]), np.array([0.0, 1.0])


def close(value, relative=1e-12, absolute=1e-13):
    return pytest.approx(value, rel=relative, abs=absolute)


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def no_information(count):
    """The NCE loss of one image with `count` negatives and equal scores: every h is 1 / (1 + m)."""
    return math.log(1 + count) + count * math.log((1 + count) / count)


def test_softmax_cross_entropy_by_hand():
    logits = np.array([[0.0, math.log(3)], [math.log(3), 0.0]])
    expected = (-math.log(1 / 4) - math.log(3 / 4)) / 2
    assert softmax_cross_entropy(logits, np.array([0, 0])) == close(expected)
    assert softmax_cross_entropy(np.full((3, 8), 5.0), np.array([0, 4, 7])) == close(math.log(8))


# MoCo


def test_moco_of_collapsed_features_is_the_log_of_one_plus_the_queue():
    ones = np.ones((4, 3))
    assert moco_info_nce(ones, 2 * ones, np.ones((9, 3)), 0.07) == close(math.log(10))


def test_moco_by_hand_and_other_keys_of_the_batch_are_no_negatives():
    queries, keys = np.array([E1, E2]), np.array([2 * E1, -E2])
    queue = np.array([E1, 5 * E2, -E1])
    first = math.log(2 * math.exp(2) + 1 + math.exp(-2)) - 2
    second = math.log(math.exp(-2) + 1 + math.exp(2) + 1) + 2
    assert moco_info_nce(queries, keys, queue, 0.5) == close((first + second) / 2)
    assert moco_info_nce(queries[:1], keys[:1], queue, 0.5) == close(first)


def test_queue_push_wraps_and_keeps_the_newest():
    queue = np.zeros((4, 1))
    queue, place = queue_push(queue, 0, np.array([[1.0], [2.0], [3.0]]))
    assert (queue.ravel().tolist(), place) == ([1, 2, 3, 0], 3)
    after, place = queue_push(queue, place, np.array([[4.0], [5.0]]))
    assert (after.ravel().tolist(), place) == ([5, 2, 3, 4], 1)
    assert queue.ravel().tolist() == [1, 2, 3, 0]
    after, place = queue_push(after, place, np.arange(6.0, 12)[:, None])
    assert (sorted(after.ravel()), after[place - 1, 0], place) == ([8, 9, 10, 11], 11, 3)


def test_moco_v3_by_hand():
    q, k = np.array([E1, E2]), np.array([3 * E1, E1])
    first, second = math.log(2), math.log(2)
    assert moco_v3_contrast(q, k, 0.5) == close(first / 2 + second / 2)  # 2 T = 1
    k = np.array([E1, E2])
    assert moco_v3_contrast(q, k, 0.25) == close(0.5 * (math.log(math.exp(4) + 1) - 4))
    assert moco_v3_contrast(q, k[::-1], 0.25) == close(0.5 * math.log(math.exp(4) + 1))


def test_moco_v3_sums_the_crossed_directions():
    eye = np.eye(3)
    wrong = np.roll(eye, 1, axis=0)
    right = moco_v3_contrast(eye, eye, 0.2)
    assert moco_v3_loss(eye, wrong, wrong, eye, 0.2) == close(2 * right)
    assert moco_v3_loss(eye, wrong, eye, wrong, 0.2) == close(
        2 * (right + 0.4 * 5)
    )  # wrong by 1 / T
    ones = np.ones((7, 2))
    assert moco_v3_loss(ones, ones, ones, ones, 0.3) == close(2 * 0.6 * math.log(7))


# Instance discrimination


def test_instdisc_softmax_by_hand():
    bank = np.array([E1, E2, -E1, E2])
    expected = math.log(math.exp(2) + 2 + math.exp(-2)) - 2
    assert instdisc_softmax(np.array([7 * E1]), bank, np.array([0]), 0.5) == close(expected)
    two = instdisc_softmax(np.array([E1, E1]), bank, np.array([0, 1]), 0.5)
    assert two == close(expected + 1)
    assert instdisc_softmax(np.array([E1]), 0 * bank + 1, [2], 0.07) == close(math.log(4))


def test_instdisc_constant_of_noise_and_with_the_own_entry():
    bank = np.array([E1, E2, -E1, E2, E2])
    features, noise = np.array([2 * E1, E1]), np.array([[0, 1], [2, 3]])
    own = np.array([0, 4])
    values = [math.exp(4), 1, math.exp(-4), 1]
    assert instdisc_constant(features, bank, noise, 0.25) == close(5 * sum(values) / 4)
    with_own = instdisc_constant(features, bank, noise, 0.25, own)
    assert with_own == close(5 * (sum(values) + math.exp(4) + 1) / 6)


def test_instdisc_constant_of_every_entry_is_the_exact_sum():
    bank = np.array([unit(row) for row in random(6, 3)])
    feature = unit(random(3, seed=1))
    exact = sum(math.exp(row @ feature / 0.3) for row in bank)
    assert instdisc_constant(feature[None], bank, np.arange(6)[None], 0.3) == close(exact)


def test_instdisc_nce_without_information():
    bank, feature = np.tile(E1, (10, 1)), np.array([E1])
    constant = 10 * math.exp(2)
    loss = instdisc_nce(feature, bank, np.array([3]), np.array([[1, 2, 5]]), 0.5, constant)
    assert loss == close(no_information(3))


def test_instdisc_nce_by_hand():
    bank = np.array([E1, E2, -E1, E2])  # n = 4, m = 2: m / n = 1 / 2
    features, index = np.array([3 * E1, E2]), np.array([0, 2])
    noise = np.array([[1, 2], [1, 1]])
    e, z = math.e, 2.0  # T = 1
    first = -math.log((e / z) / (e / z + 0.5))
    first -= math.log(0.5 / (1 / z + 0.5)) + math.log(0.5 / (1 / (e * z) + 0.5))
    second = -math.log((1 / z) / (1 / z + 0.5)) - 2 * math.log(0.5 / (e / z + 0.5))
    loss = instdisc_nce(features, bank, index, noise, 1.0, z)
    assert loss == close((first + second) / 2)


def test_instdisc_proximal_by_hand():
    bank = np.array([E1, E2, unit(np.array([1.0, 1.0]))])
    features, index = np.array([4 * E2, E2]), np.array([0, 2])
    expected = 30 * (2 + (2 - math.sqrt(2))) / 2
    assert instdisc_proximal(features, bank, index, 30) == close(expected)
    assert instdisc_proximal(5 * bank, bank, np.arange(3), 30) == close(0)


def test_bank_update_normalises_the_feature_and_the_mixture():
    bank = np.array([E1, E1, E2])
    updated = bank_update(bank, np.array([1, 2]), np.array([5 * E2, -3 * E1]), 0.5)
    half = math.sqrt(0.5)
    np.testing.assert_allclose(updated, [[1, 0], [half, half], [-half, half]], atol=1e-15)
    assert bank.tolist() == [[1, 0], [1, 0], [0, 1]]
    kept = bank_update(bank, np.array([0]), np.array([E2]), 0.8)[0]
    np.testing.assert_allclose(kept, np.array([0.8, 0.2]) / math.sqrt(0.68))


# PIRL


def test_pirl_by_hand():
    bank, index = np.array([2 * E1, E2, -E1, E2]), np.array([0])
    negatives = np.array([[1]]), np.array([[2]])  # m / n = 1 / 4
    e, z = math.e, 4.0
    patches = -math.log(1 / (1 + 1)) - math.log(1 / (e + 1))  # f = e2: own 1, noise e
    image = -math.log(e / (e + 1)) - math.log(1 / (1 / e + 1))  # f = e1: own e, noise 1 / e
    args = (np.array([E1]), np.array([E2]), bank, index, negatives, 1.0, z)
    assert pirl_loss(*args, mix=0.25) == close(0.25 * patches + 0.75 * image)


# NNCLR


def test_nearest_goes_by_angle_and_not_by_length():
    support = np.array([[0.9, 0.9], [50.0, 1.0], [0.0, 0.1], [-1.0, 0.0]])
    found = nearest(np.array([[1.0, 0.0], [0.1, 3.0], [-2.0, -0.1]]), support)
    expected = [unit(support[1]), E2, -E1]
    np.testing.assert_allclose(found, expected, atol=1e-15)


def test_nnclr_puts_the_neighbour_in_the_anchors_place():
    support = np.array([-E1, -E2])
    z, p = np.array([[-1.0, 0.1], [0.1, -1.0]]), np.array([-2 * E1, E1])
    first = math.log(math.exp(2) + math.exp(-2)) - 2  # -e1 against -e1, e1
    second = math.log(2)  # -e2 against both
    assert nnclr_direction(z, p, support, 0.5) == close((first + second) / 2)


def test_nnclr_crosses_the_views():
    eye = np.eye(3)
    wrong = np.roll(eye, 1, axis=0)
    right = math.log(math.exp(5) + 2) - 5
    assert nnclr_loss(eye, wrong, wrong, eye, eye, 0.2) == close(right)
    assert nnclr_loss(eye, wrong, eye, wrong, eye, 0.2) == close(right + 5)
    assert nnclr_loss(eye, eye, eye, eye, eye[:1], 0.2) == close(right + 5 * 2 / 3)


def test_nnclr_with_the_support_set_of_the_own_features_has_them_as_anchors():
    z, p = random(5, 4), random(5, 4, seed=1)
    assert nnclr_direction(z, p, z, 0.1) == close(moco_v3_contrast(z, p, 0.1) / 0.2)


# CPC


def test_cpc_score_is_bilinear_in_this_order():
    weight = np.array([[1.0, 2.0, 0.0], [0.0, 0.0, 3.0]])
    assert cpc_score(np.array([1.0, 10.0]), weight, np.array([4.0, 5.0, 6.0])) == close(194)


@pytest.mark.parametrize(("every_row", "candidates"), [(False, 3 * 2 * 5), (True, 3 * 4 * 5)])
def test_cpc_without_information_is_the_log_of_the_candidates(every_row, candidates):
    z, context = random(3, 4, 5, 2), random(3, 4, 5, 3, seed=1)
    loss = cpc_offset_loss(z, context, np.zeros((2, 3)), 2, every_row)
    assert loss == close(math.log(candidates))


def test_cpc_by_hand_in_both_sets_of_candidates():
    z = np.array([[0.5, 1.0], [3.0, -1.0]]).reshape(2, 2, 1, 1)  # image, row
    context = np.array([[1.0, 99.0], [2.0, 99.0]]).reshape(2, 2, 1, 1)
    weight = np.array([[0.5]])

    def prediction(c, positive, *others):
        s = [0.5 * c * value for value in (positive, *others)]
        return math.log(sum(map(math.exp, s))) - s[0]

    valid = (prediction(1, 1, -1) + prediction(2, -1, 1)) / 2
    every = (prediction(1, 1, -1, 0.5, 3) + prediction(2, -1, 1, 0.5, 3)) / 2
    assert cpc_offset_loss(z, context, weight, 1) == close(valid)
    assert cpc_offset_loss(z, context, weight, 1, every_row=True) == close(every)


def test_cpc_predicts_the_patch_below_in_the_same_column_and_image():
    # Patches are one-hot and so are contexts: of the place `offset` rows below, times 40.
    z = np.eye(2 * 3 * 2).reshape(2, 3, 2, 12)
    for offset in (1, 2):
        context = np.zeros_like(z)
        context[:, : 3 - offset] = 40 * z[:, offset:]
        assert cpc_offset_loss(z, context, np.eye(12), offset, True) == close(0)
        swapped = context[:, :, ::-1]  # the other column: always wrong by 40
        assert cpc_offset_loss(z, swapped, np.eye(12), offset, True) == close(40)
        other = context[::-1]
        assert cpc_offset_loss(z, other, np.eye(12), offset) == close(40)


def test_cpc_averages_over_its_offsets():
    z, context = random(2, 4, 2, 3), random(2, 4, 2, 3, seed=1)
    weights = {1: np.zeros((3, 3)), 3: np.zeros((3, 3))}
    expected = (math.log(2 * 3 * 2) + math.log(2 * 1 * 2)) / 2
    assert cpc_loss(z, context, weights) == close(expected)
    assert cpc_loss(z, context, weights, every_row=True) == close(math.log(16))


# AMDIM


def test_amdim_nce_by_hand():
    antecedent = np.array([[2.0, 0, 0, 0], [0, 4.0, 0, 0]])  # sqrt(D) = 2
    maps = np.zeros((2, 4, 1, 2))
    maps[0, 0, 0] = (3, 1)  # antecedent 0 on its own image: 3, 1
    maps[1, 0, 0] = (0, -1)  # antecedent 0 on image 1: 0, -1
    maps[0, 1, 0] = (1, 0)  # antecedent 1 on image 0: 2, 0
    maps[1, 1, 0] = (0.5, 0)  # antecedent 1 on its own image: 1, 0
    clip = {value: 5 * math.tanh(value / 5) for value in (3, 2, 1, 0, -1)}

    def term(positive, *negatives):
        scores = [clip[value] for value in (positive, *negatives)]
        return math.log(sum(map(math.exp, scores))) - scores[0]

    expected = (term(3, 0, -1) + term(1, 0, -1) + term(1, 2, 0) + term(0, 2, 0)) / 4
    loss, penalty = amdim_nce(antecedent, maps, clip=5, weight=0.1)
    assert loss == close(expected)
    assert penalty == close(0.1 * (9 + 1 + 0 + 1 + 4 + 0 + 1 + 0) / 8)


def test_amdim_of_one_image_has_no_negatives():
    loss, penalty = amdim_nce(np.array([[3.0]]), np.full((1, 1, 2, 2), 2.0))
    assert loss == close(0)
    assert penalty == close(5e-2 * 36)


def test_amdim_clips_scores_but_not_the_penalty():
    maps = np.array([1e3, -1e3]).reshape(2, 1, 1, 1)
    loss, penalty = amdim_nce(np.array([[1e3], [1e3]]), maps, clip=2, weight=1.0)
    expected = (math.log(1 + math.exp(-4)) + math.log(1 + math.exp(4))) / 2
    assert (loss, penalty) == (close(expected), close(1e12))


def test_amdim_without_information_adds_three_terms():
    view = np.zeros((3, 4)), np.zeros((3, 4, 5, 5)), np.zeros((3, 4, 7, 7))
    loss = amdim_loss(view, view, np.array([0, 7, 24]), np.array([1, 2, 3]))
    assert loss == close(2 * math.log(1 + 2 * 25) + math.log(1 + 2 * 49))


def test_amdim_takes_the_antecedent_of_5_to_5_from_its_place():
    f1, f7 = np.zeros((2, 1)), np.zeros((2, 1, 7, 7))
    view1, view2 = np.zeros((2, 1, 5, 5)), np.ones((2, 1, 5, 5))
    view1[0, 0, 1, 3] = view1[1, 0, 4, 0] = 1
    view2[1] = -1
    view2[:, 0, 0, 0] = 0  # where view 2 has its antecedents: that direction has no information

    def loss(place):
        return amdim_loss((f1, view1, f7), (f1, view2, f7), np.array(place), np.array([0, 0]))

    blind = 2 * math.log(26) + math.log(50)
    assert loss([3 * 5 + 1, 0]) == close(blind)
    t = 20 * math.tanh(1 / 20)

    def image(own, other):  # 24 positions score `own` or `other`, one scores 0 in either image
        negatives = 1 + 24 * math.exp(other)
        at_own = math.log(math.exp(own) + negatives) - own
        return (24 * at_own + math.log(1 + negatives)) / 25

    term = (image(t, -t) + image(-t, t)) / 2 + 5e-2 * 24 / 25
    assert loss([8, 20]) == close(blind + (term - math.log(26)) / 2)


def test_amdim_does_not_change_when_the_views_change_places():
    view1, view2 = (
        (random(2, 3, seed=s), random(2, 3, 5, 5, seed=s + 1), random(2, 3, 7, 7, seed=s + 2))
        for s in (0, 10)
    )
    one, two = np.array([3, 24]), np.array([0, 11])
    loss = amdim_loss(view1, view2, one, two)
    assert loss == close(amdim_loss(view2, view1, two, one))
    assert abs(loss - amdim_loss(view1, view2, two, one)) > 1e-3


# Exemplar-CNN


def test_patch_probabilities_around_a_step():
    image = np.tile([0.0, 0, 0, 4, 4, 4], (4, 1))  # the gradient is 2 in columns 2 and 3
    expected = np.tile([0, 1 / 12, 1 / 6, 1 / 12, 0], (3, 1))
    np.testing.assert_allclose(patch_probabilities(image, 2), expected, atol=1e-15)
    np.testing.assert_allclose(patch_probabilities(7 * image.T - 3, 2), expected.T, atol=1e-15)


def test_patch_probabilities_add_the_squares_of_both_directions():
    image = np.array([[0.0, 1.0], [2.0, 5.0]])
    expected = np.array([[4 + 1, 16 + 1], [4 + 9, 16 + 9]]) / 60
    np.testing.assert_allclose(patch_probabilities(image, 1), expected)


def test_patch_probabilities_of_a_ramp_and_of_a_constant_are_uniform():
    row, column = np.mgrid[0:5, 0:7]
    for image in (2 * row - column, np.full((5, 7), 3.0)):
        np.testing.assert_allclose(patch_probabilities(image, 3), np.full((3, 5), 1 / 15))


# SimCLR v2


def test_distillation_by_hand():
    teacher, student = np.array([[0.0, math.log(3)]]), np.array([[math.log(2), 0.0]])
    expected = -(math.log(2 / 3) / 4 + 3 * math.log(1 / 3) / 4)
    assert distillation(student, teacher, 1.0) == close(expected)
    assert distillation(2 * student, 2 * teacher, 2.0) == close(expected)
    assert distillation(2 * student, 2 * teacher, 2.0, square_factor=True) == close(4 * expected)


def test_distillation_is_least_at_the_teacher_and_not_zero():
    teacher = random(3, 4)
    gradient = numerical_gradient(lambda s: distillation(s, teacher, 0.7), teacher)
    np.testing.assert_allclose(gradient, 0, atol=1e-8)
    assert distillation(teacher, teacher, 0.7) < distillation(teacher + np.eye(3, 4), teacher, 0.7)
    assert distillation(0 * teacher, 0 * teacher, 0.7) == close(math.log(4))


def test_distillation_with_labels_mixes_by_alpha_and_leaves_labels_at_temperature_one():
    labelled, labels = np.array([[0.0, math.log(3)]]), np.array([1])
    student, teacher = np.zeros((2, 2)), random(2, 2)
    losses = [
        distillation_with_labels(labelled, labels, student, teacher, 0.5, alpha)
        for alpha in (0, 1, 0.25)
    ]
    supervised, soft = math.log(4 / 3), math.log(2)
    assert losses == [close(supervised), close(soft), close(0.75 * supervised + 0.25 * soft)]


# Invariances


BANK = np.array([unit(row) for row in random(6, 3, seed=5)])
OWN, DRAWN = np.array([0, 4]), np.array([[1, 2, 5], [0, 2, 3]])


@pytest.mark.parametrize(
    "loss",
    [
        lambda z: moco_info_nce(z, BANK[:2], BANK[2:], 0.5),
        lambda z: moco_v3_contrast(z, BANK[:2], 0.5),
        lambda z: moco_v3_contrast(BANK[:2], z, 0.5),
        lambda z: instdisc_softmax(z, BANK, OWN, 0.5),
        lambda z: instdisc_nce(z, BANK, OWN, DRAWN, 0.5, 12.0),
        lambda z: instdisc_proximal(z, BANK, OWN, 3.0),
        lambda z: nnclr_direction(BANK[:2], z, BANK, 0.5),
    ],
)
def test_the_length_of_a_feature_does_not_matter(loss):
    z = random(2, 3, seed=6)
    gradient = numerical_gradient(loss, z)
    assert np.abs(gradient).max() > 1e-2
    np.testing.assert_allclose(np.sum(gradient * z, axis=1), 0, atol=1e-8)


def test_no_gradient_reaches_nnclr_through_the_choice_of_a_neighbour():
    z = random(2, 3, seed=6)
    gradient = numerical_gradient(lambda a: nnclr_direction(a, BANK[:2], BANK, 0.5), z)
    assert np.abs(gradient).max() == 0
