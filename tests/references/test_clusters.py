"""The references by clusters themselves, against cases that can be computed by hand."""

import itertools
import math

import numpy as np
import pytest

from references.clusters import (
    cluster_weights,
    deepcluster_features,
    deepcluster_loss,
    deepcluster_v2_loss,
    kmeans,
    nearest,
    pca_whiten,
    reseed_empty,
    sinkhorn,
    spherical_kmeans,
    swav_codes,
    swav_loss,
)


def close(value, relative=1e-12, absolute=1e-14):
    return pytest.approx(value, rel=relative, abs=absolute)


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def binary_cross_entropy(q, p):
    return -q * math.log(p) - (1 - q) * math.log(1 - p)


def polar(*degrees):
    return np.array([[math.cos(math.radians(d)), math.sin(math.radians(d))] for d in degrees])


def test_sinkhorn_scales_prototypes_before_samples():
    scores = np.log([[1.0, 2.0], [3.0, 4.0]])  # columns: 1/4, 3/4; 1/3, 2/3; rows: 7/12, 17/12
    codes = sinkhorn(scores, 1.0, 1)
    np.testing.assert_allclose(codes, [[3 / 7, 4 / 7], [9 / 17, 8 / 17]], rtol=1e-13)


def test_sinkhorn_divides_scores_by_epsilon():
    scores = np.log([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_allclose(sinkhorn(0.05 * scores, 0.05, 1)[0], [3 / 7, 4 / 7], rtol=1e-13)


def test_sinkhorn_keeps_a_matrix_of_equal_marginals():
    a = 0.1
    codes = sinkhorn(a * np.eye(2), 0.05, 3)
    q = sigmoid(a / 0.05)
    np.testing.assert_allclose(codes, [[q, 1 - q], [1 - q, q]], rtol=1e-13)


def test_sinkhorn_removes_a_preferred_prototype():
    scores = np.outer(np.ones(5), [0.9, -0.3, 0.1])
    np.testing.assert_allclose(sinkhorn(scores, 0.05, 1), np.full((5, 3), 1 / 3), rtol=1e-12)


def test_sinkhorn_converges_to_equal_marginals_with_the_odds_it_was_given():
    codes = sinkhorn(np.log([[1.0, 2.0], [3.0, 4.0]]), 1.0, 200)
    odds = math.sqrt(1 * 4 / (2 * 3))  # the odds ratio is left alone, here equal to (p / (1 - p))^2
    p = odds / (1 + odds)
    np.testing.assert_allclose(codes, [[p, 1 - p], [1 - p, p]], rtol=1e-10)


def test_sinkhorn_of_more_samples_than_prototypes_shares_them_out():
    scores = np.random.default_rng(0).normal(size=(6, 3))
    codes = sinkhorn(scores, 0.5, 300)
    np.testing.assert_allclose(codes.sum(axis=0), 2, rtol=1e-8)
    assert np.abs(sinkhorn(scores, 0.5, 1).sum(axis=0) - 2).max() > 1e-3


def test_sinkhorn_rows_sum_to_one_at_a_tiny_epsilon():
    scores = np.random.default_rng(0).uniform(-1, 1, size=(7, 4))
    codes = sinkhorn(scores, 1e-4, 3)
    assert np.isfinite(codes).all()
    np.testing.assert_allclose(codes.sum(axis=1), 1, rtol=1e-9)


def test_sinkhorn_does_not_change_with_a_shift_of_one_sample():
    scores = np.random.default_rng(0).normal(size=(4, 3))
    shifted = scores + 0.7
    np.testing.assert_allclose(sinkhorn(shifted), sinkhorn(scores), rtol=1e-9)
    shifted = scores + np.array([[0.3], [0.0], [0.0], [0.0]])  # a weight of one row is not undone
    assert np.abs(sinkhorn(shifted, 1.0, 1) - sinkhorn(scores, 1.0, 1)).max() > 1e-3
    np.testing.assert_allclose(sinkhorn(shifted, 1.0, 99), sinkhorn(scores, 1.0, 99), rtol=1e-9)


def test_codes_of_a_single_sample_are_uniform_without_a_queue():
    np.testing.assert_allclose(swav_codes(np.array([[0.3, -0.2, 0.9]])), np.full((1, 3), 1 / 3))


def test_queue_takes_part_in_codes_but_is_not_returned():
    a = 0.1
    codes = swav_codes(np.array([[a, 0.0]]), 0.05, 3, np.array([[0.0, a]]))
    q = sigmoid(a / 0.05)
    np.testing.assert_allclose(codes, [[q, 1 - q]], rtol=1e-13)


def test_swav_loss_of_equal_scores_is_the_log_of_the_prototypes():
    assert swav_loss(np.zeros((5, 3, 7))) == close(math.log(7))


def test_swav_loss_of_three_views_by_hand():
    a, b, t = 0.1, 0.03, 0.2
    scores = np.stack([a * np.eye(2), b * np.eye(2), np.zeros((2, 2))])
    from_first = binary_cross_entropy(sigmoid(a / 0.05), sigmoid(b / t))
    from_second = binary_cross_entropy(sigmoid(b / 0.05), sigmoid(a / t))
    expected = (from_first + math.log(2) + from_second + math.log(2)) / 4
    assert swav_loss(scores, t) == close(expected)


def test_swav_loss_never_lets_a_view_predict_itself():
    first, second = np.array([[5.0, -5.0]]), np.array([[0.2, 0.1]])  # one sample: uniform codes
    expected = binary_cross_entropy(0.5, sigmoid(1.0))
    assert swav_loss(np.stack([first, second]), 0.1, assign=(0,)) == close(expected)


def test_swav_loss_gives_each_view_its_own_queue():
    a = 0.1
    scores = np.array([[[a, 0.0]], [[0.0, a]]])
    queue = np.array([[[0.0, a]], [[a, 0.0]]])
    expected = binary_cross_entropy(sigmoid(a / 0.05), sigmoid(-a / 0.1))
    assert swav_loss(scores, queue=queue) == close(expected)
    assert swav_loss(scores, queue=queue[::-1]) != close(expected, 1e-3)


def test_kmeans_on_a_line():
    x, start = np.array([[0.0], [1.0], [10.0], [11.0]]), np.array([[0.0], [1.0]])
    centroids, assignment = kmeans(x, start, 0)
    assert centroids.ravel().tolist() == [0, 1]
    assert assignment.tolist() == [0, 1, 1, 1]
    centroids, assignment = kmeans(x, start, 1)
    np.testing.assert_allclose(centroids.ravel(), [0, 22 / 3])
    assert assignment.tolist() == [0, 0, 1, 1]
    centroids, _ = kmeans(x, start, 2)
    np.testing.assert_allclose(centroids.ravel(), [0.5, 10.5])


def test_kmeans_never_raises_the_distance():
    x = np.random.default_rng(0).normal(size=(40, 3))
    costs = []
    for iterations in range(8):
        centroids, assignment = kmeans(x, x[:5], iterations)
        costs.append(np.sum((x - centroids[assignment]) ** 2))
    assert all(after <= before + 1e-12 for before, after in itertools.pairwise(costs))
    assert costs[-1] < 0.9 * costs[0]


def test_nearest_takes_the_first_of_equals():
    assert nearest(np.array([[0.0]]), np.array([[5.0], [1.0], [-1.0]])).tolist() == [1]


def test_empty_cluster_splits_the_chosen_one():
    x, start = np.array([[0.0], [2.0], [10.0], [12.0]]), np.array([[1.5], [11.5], [100.0]])
    options = {"donor": lambda sizes: 0, "perturb": lambda centroid: centroid + 0.5}
    centroids, assignment = kmeans(x, start, 1, **options)
    np.testing.assert_allclose(centroids.ravel(), [1, 11, 1.5])  # from the *new* centroid of 0
    assert assignment.tolist() == [0, 2, 1, 1]
    centroids, _ = kmeans(x, start, 2, **options)
    np.testing.assert_allclose(centroids.ravel(), [0, 11, 2])


def test_donor_is_picked_by_the_sizes_of_the_assignment_that_emptied_the_cluster():
    seen = []

    def donor(sizes):
        seen.append(sizes.tolist())
        return 1

    x, start = np.array([[0.0], [1.0], [10.0], [11.0]]), np.array([[0.0], [1.0], [-50.0]])
    kmeans(x, start, 1, donor, lambda centroid: centroid + 1)
    assert seen == [[1, 3, 0]]  # the updated centroids, 0 and 22 / 3, would give 2 and 2


def test_empty_cluster_keeps_its_centroid_without_a_donor():
    x, start = np.array([[0.0], [2.0]]), np.array([[1.5], [100.0]])
    centroids, assignment = kmeans(x, start, 3)
    assert centroids.ravel().tolist() == [1, 100]
    assert assignment.tolist() == [0, 0]


def test_second_empty_cluster_sees_the_sizes_after_the_first_split():
    x, seen = np.array([[0.0], [1.0], [2.0], [3.0]]), []

    def donor(sizes):
        seen.append(sizes.tolist())
        return int(np.argmax(sizes))

    centroids, assignment = reseed_empty(
        x, np.array([[1.2], [9.0], [9.0]]), np.zeros(4, dtype=int), donor, lambda c: c + 0.4
    )
    np.testing.assert_allclose(centroids.ravel(), [1.2, 1.6, 1.6])
    assert seen == [[4, 0, 0], [2, 2, 0]]  # the border is 1.4; argmax of a tie is cluster 0 again
    assert assignment.tolist() == [0, 0, 1, 1]  # to the third from 0 only: nothing beyond 1.4 there


def test_reseeding_touches_no_other_cluster():
    x = np.array([[0.0], [1.0], [1.3]])
    _, assignment = reseed_empty(
        x, np.array([[0.0], [1.1], [9.0]]), np.array([0, 1, 0]), lambda sizes: 0, lambda c: c + 1.2
    )
    assert assignment.tolist() == [0, 1, 2]  # 1.3 moves; 1.0 would be nearer to 1.2, but is not 0's


def test_reseeding_refuses_an_empty_donor():
    with pytest.raises(AssertionError, match="empty"):
        reseed_empty(
            np.zeros((2, 1)), np.zeros((3, 1)), np.zeros(2, dtype=int), lambda s: 2, lambda c: c
        )


def test_spherical_kmeans_by_angle_whatever_the_lengths():
    x = polar(0, 10, 90, 100) * np.array([[1.0], [50.0], [0.1], [7.0]])
    centroids, assignment = spherical_kmeans(x, 3 * polar(-20, 80), 1)
    np.testing.assert_allclose(centroids, polar(5, 95), atol=1e-15)
    assert assignment.tolist() == [0, 0, 1, 1]


def test_spherical_kmeans_keeps_an_empty_cluster():
    centroids, assignment = spherical_kmeans(polar(0, 10), polar(30, 180), 4)
    np.testing.assert_allclose(centroids, polar(5, 180), atol=1e-15)
    assert assignment.tolist() == [0, 0]


def test_spherical_kmeans_assigns_once_more_after_the_last_update():
    # at first 50 is nearer to 75 (25) than to 0 (50); then the centroids are 0 and 100
    x = polar(0, 50, 120, 130)
    assert spherical_kmeans(x, polar(0, 75), 0)[1].tolist() == [0, 1, 1, 1]
    centroids, assignment = spherical_kmeans(x, polar(0, 75), 1)
    second = polar(50, 120, 130).sum(axis=0)
    np.testing.assert_allclose(centroids[1], second / np.linalg.norm(second))
    assert 100 < math.degrees(math.atan2(second[1], second[0])) < 103
    assert assignment.tolist() == [0, 0, 1, 1]


def test_whitening_of_a_cross():
    cross = np.array([[3.0, 0.0], [-3.0, 0.0], [0.0, 1.0], [0.0, -1.0]]) + np.array([[70.0, -5.0]])
    white = pca_whiten(cross, 2)
    np.testing.assert_allclose(np.abs(white[:, 0]), [math.sqrt(2)] * 2 + [0, 0], atol=1e-12)
    np.testing.assert_allclose(np.abs(white[:, 1]), [0, 0] + [math.sqrt(2)] * 2, atol=1e-12)
    z = deepcluster_features(cross, 2)
    expected = np.kron(np.eye(2), [[1, -1], [-1, 1]])
    np.testing.assert_allclose(z @ z.T, expected, atol=1e-12)


def test_whitened_components_are_uncorrelated_and_the_largest():
    x = np.random.default_rng(0).normal(size=(50, 4)) * np.array([0.1, 5.0, 1.0, 2.0])
    white = pca_whiten(x, 2)
    np.testing.assert_allclose(white.T @ white / 50, np.eye(2), atol=1e-12)
    assert abs(np.corrcoef(white[:, 0], x[:, 1])[0, 1]) > 0.95
    assert abs(np.corrcoef(white[:, 1], x[:, 3])[0, 1]) > 0.95


def test_full_whitening_undoes_a_linear_map():
    generator = np.random.default_rng(0)
    x, mixing = generator.normal(size=(20, 3)), generator.normal(size=(3, 3))
    plain, mixed = deepcluster_features(x, 3), deepcluster_features(x @ mixing + 4, 3)
    np.testing.assert_allclose(np.linalg.norm(mixed, axis=1), 1)
    np.testing.assert_allclose(mixed @ mixed.T, plain @ plain.T, atol=1e-10)


def test_whitening_refuses_a_component_without_variance():
    with pytest.raises(AssertionError, match="independent"):
        pca_whiten(np.outer(np.arange(5.0), [1.0, 2.0]), 2)


def test_cluster_weights_by_hand():
    weights = cluster_weights(np.array([0, 0, 7, 0]))  # N = 4, two non-empty clusters
    np.testing.assert_allclose(weights, [2 / 3, 2 / 3, 2, 2 / 3])


def test_weighted_loss_is_the_expected_loss_of_uniformly_drawn_clusters():
    generator = np.random.default_rng(0)
    labels = np.array([0, 1, 1, 1, 3, 3])
    logits = generator.normal(size=(6, 4))
    each = np.array([deepcluster_loss(logits[[i]], labels[[i]], np.ones(1)) for i in range(6)])
    expected = np.mean([each[labels == k].mean() for k in (0, 1, 3)])
    assert abs(expected - each.mean()) > 1e-3
    assert deepcluster_loss(logits, labels, cluster_weights(labels)) == close(expected)


def test_deepcluster_loss_by_hand():
    logits = np.array([[0.0, 0.0], [math.log(3), 0.0]])
    loss = deepcluster_loss(logits, np.array([1, 0]), np.array([0.5, 2.0]))
    assert loss == close((0.5 * math.log(2) + 2 * math.log(4 / 3)) / 2)


def test_deepcluster_v2_loss_by_hand():
    features = np.array([[[3.0, 0.0]], [[0.0, 0.2]]])  # two crops of one image
    heads = [np.array([[2.0, 0.0], [0.0, 5.0]]), np.array([[-1.0, 0.0], [0.0, -1.0]])]
    near, far = math.log1p(math.exp(-10)), 10 + math.log1p(math.exp(-10))
    loss = deepcluster_v2_loss(features, heads, np.array([[0], [0]]))
    assert loss == close(((near + far) / 2 + (far + near) / 2) / 2)
    one_crop = deepcluster_v2_loss(features[:1], heads, np.array([[0], [1]]))
    assert one_crop == close(near)


def test_deepcluster_v2_loss_weighs_heads_of_any_size_alike():
    features = np.array([[[1.0, 0.0]]])
    heads = [np.tile([[1.0, 1.0]], (k, 1)) for k in (2, 8)]
    loss = deepcluster_v2_loss(features, heads, np.zeros((2, 1), dtype=int))
    assert loss == close((math.log(2) + math.log(8)) / 2)


def test_deepcluster_v2_loss_leaves_out_what_was_never_clustered():
    features = polar(0, 90)[None]
    loss = deepcluster_v2_loss(features, [polar(0, 90)], np.array([[1, -100]]), 1.0)
    wrong, right = 1 + math.log1p(math.exp(-1)), math.log1p(math.exp(-1))
    assert loss == close(wrong)
    targets = np.array([[1, -100], [0, 1]])  # each head counts once, however many it has left
    loss = deepcluster_v2_loss(features, [polar(0, 90)] * 2, targets, 1.0)
    assert loss == close((wrong + right) / 2)
