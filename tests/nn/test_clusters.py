import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from references import clusters as reference
from selftaught import dist
from selftaught.errors import UserError
from selftaught.nn import clusters
from selftaught.nn.clusters import (
    UNKNOWN,
    Clustering,
    Embeddings,
    drawn,
    kmeans,
    nearest,
    refilled,
    spherical_kmeans,
    whitened,
)


def normal(*shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=g, dtype=torch.float64)


def largest(sizes):
    return int(sizes.argmax())


def beside(centroid):
    return 1.01 * centroid + 0.003


@pytest.fixture
def known(monkeypatch):
    """Nothing is random: the largest cluster is split, always in the same direction."""
    monkeypatch.setattr(clusters, "donor", largest)
    monkeypatch.setattr(clusters, "perturbed", beside)


@pytest.mark.parametrize("iterations", [0, 1, 2, 10])
def test_kmeans_equals_the_reference(iterations):
    x = normal(40, 3)
    ours = kmeans(x, x[:5], iterations)
    theirs = reference.kmeans(x.numpy(), x[:5].numpy(), iterations)
    np.testing.assert_allclose(ours[0].numpy(), theirs[0], rtol=1e-9)
    np.testing.assert_array_equal(ours[1].numpy(), theirs[1])


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("iterations", [2, 6])
def test_kmeans_that_begins_with_empty_clusters_equals_the_reference(iterations):
    x = normal(40, 3)
    start = torch.cat([x[:3], 100 + x[3:6]])
    assert set(reference.nearest(x.numpy(), start.numpy())) == {0, 1, 2}
    ours = kmeans(x, start, iterations)
    options = (lambda sizes: int(np.argmax(sizes)), beside)
    theirs = reference.kmeans(x.numpy(), start.numpy(), iterations, *options)
    assert np.bincount(theirs[1], minlength=6).min() > 0
    np.testing.assert_allclose(ours[0].numpy(), theirs[0], rtol=1e-9)
    np.testing.assert_array_equal(ours[1].numpy(), theirs[1])


@pytest.mark.usefixtures("known")
def test_refilling_equals_the_reference():
    x, centroids = normal(30, 2), torch.cat([normal(3, 2, seed=1), 50 + normal(2, 2)])
    labels = nearest(x, centroids)
    ours = refilled(x, centroids, labels)
    options = (lambda sizes: int(np.argmax(sizes)), beside)
    theirs = reference.reseed_empty(x.numpy(), centroids.numpy(), labels.numpy(), *options)
    np.testing.assert_allclose(ours[0].numpy(), theirs[0], rtol=1e-12)
    np.testing.assert_array_equal(ours[1].numpy(), theirs[1])


@settings(deadline=None, max_examples=100)
@given(
    st.integers(1, 20), st.integers(1, 20), st.integers(0, 4), st.integers(1, 4), st.integers(0, 99)
)
def test_kmeans_leaves_no_cluster_empty(rows, count, iterations, different, seed):
    """Not even where many rows are alike, or all of them, or there are as many clusters as rows."""
    count = min(count, rows)
    x = normal(different, 2, seed=seed)[torch.arange(rows) % different]
    torch.manual_seed(seed)
    centroids, labels = kmeans(x, drawn(x, count), iterations)
    assert torch.bincount(labels, minlength=count).min() > 0
    assert len(centroids) == count
    assert torch.isfinite(centroids).all()


def test_a_split_cluster_is_taken_at_random_and_never_one_of_a_single_row():
    torch.manual_seed(0)
    taken = [clusters.donor(torch.tensor([1, 0, 4, 2])) for _ in range(400)]
    assert set(taken) == {2, 3}
    assert taken.count(2) == pytest.approx(300, abs=40)


def test_a_perturbed_centroid_is_near_and_random():
    centroid = normal(50)
    one, two = clusters.perturbed(centroid), clusters.perturbed(centroid)
    assert not torch.equal(one, two)
    assert 0 < (one / centroid - 1).abs().max() < 0.01


@pytest.mark.parametrize("iterations", [0, 1, 10])
def test_spherical_kmeans_equals_the_reference(iterations):
    x = torch.nn.functional.normalize(normal(40, 3), dim=1)
    start = torch.cat([x[:4], -x[:1]])
    ours = spherical_kmeans(x, start, iterations)
    theirs = reference.spherical_kmeans(x.numpy(), start.numpy(), iterations)
    np.testing.assert_allclose(ours[0].numpy(), theirs[0], rtol=1e-9)
    np.testing.assert_array_equal(ours[1].numpy(), theirs[1])


def test_spherical_kmeans_keeps_the_centroid_of_an_empty_cluster():
    x = torch.tensor([[1.0, 0.0], [0.8, 0.6]])
    centroids, labels = spherical_kmeans(x, torch.tensor([[1.0, 0.0], [-1.0, 0.0]]), 3)
    assert torch.equal(centroids[1], torch.tensor([-1.0, 0.0]))
    assert labels.tolist() == [0, 0]


def test_distances_are_computed_a_piece_at_a_time(monkeypatch):
    x, centroids = normal(50, 3), normal(4, 3, seed=1)
    before = nearest(x, centroids)
    monkeypatch.setattr(clusters, "PIECE", 12)
    assert torch.equal(nearest(x, centroids), before)
    np.testing.assert_array_equal(before, reference.nearest(x.numpy(), centroids.numpy()))


def test_single_precision_under_autocast():
    x = normal(200, 16).float()
    plain = kmeans(x, x[:9], 5)
    with torch.autocast("cpu", torch.bfloat16):
        half = kmeans(x, x[:9], 5)
        white = whitened(x, 4)
    assert torch.equal(plain[0], half[0])
    assert torch.equal(plain[1], half[1])
    assert torch.equal(white, whitened(x, 4))
    assert whitened(x.bfloat16(), 4).dtype == torch.float32


@pytest.mark.parametrize("find", [kmeans, spherical_kmeans])
def test_processes_agree_on_the_first_ones_clusters(find, monkeypatch):
    x = torch.nn.functional.normalize(normal(30, 3), dim=1)
    centroids, labels = find(x, x[:4], 3)
    monkeypatch.setattr(dist, "gather", lambda rows: torch.cat([rows - 1, rows]))
    found = find(x, x[:4], 3)
    assert torch.equal(found[0], centroids - 1)
    assert torch.equal(found[1], labels - 1)


@pytest.mark.parametrize("dim", [1, 3, 5])
def test_whitening_equals_the_reference_but_for_signs(dim):
    x = normal(60, 5) @ normal(5, 5, seed=1) + 3
    ours = whitened(x, dim)
    theirs = reference.deepcluster_features(x.numpy(), dim)
    np.testing.assert_allclose((ours @ ours.T).numpy(), theirs @ theirs.T, rtol=1e-9, atol=1e-9)


def test_whitening_does_not_blow_rounding_up():
    x = torch.cat([normal(50, 2), torch.zeros(50, 3).double()], dim=1) @ normal(5, 5, seed=1)
    white = whitened(x.float(), 5)
    two = whitened(x, 2)
    torch.testing.assert_close((white @ white.T).double(), two @ two.T, rtol=0, atol=0.05)


def test_whitening_of_equal_rows_is_zero():
    assert torch.equal(whitened(torch.full((5, 3), 0.25), 2), torch.zeros(5, 2))


def test_the_start_is_drawn_without_repetition():
    x = torch.arange(9.0)[:, None]
    torch.manual_seed(0)
    first, second = drawn(x, 9), drawn(x, 9)
    assert torch.equal(first.sort(dim=0).values, x)
    assert not torch.equal(first, second)
    with pytest.raises(UserError, match="10 clusters of 9 images that can be read"):
        drawn(x, 10)


def test_weights_equal_the_reference():
    memory = Clustering(9, 4, 2).double()
    index, labels = torch.tensor([8, 0, 1, 3, 4, 7]), torch.tensor([3, 0, 0, 3, 3, 1])
    memory.remember(index, torch.ones(4, 2), labels)
    assert memory.labels.tolist() == [0, 0, UNKNOWN, 3, 3, UNKNOWN, UNKNOWN, 1, 3]
    theirs = reference.cluster_weights(labels.numpy())
    np.testing.assert_allclose(memory.weights(labels).numpy(), theirs, rtol=1e-12)
    assert torch.isfinite(memory.weights(memory.labels)).all()


def test_what_was_remembered_is_forgotten_by_the_next_clustering():
    memory = Clustering(3, 2, 2)
    memory.remember(torch.tensor([0, 1]), torch.ones(2, 2), torch.tensor([0, 1]))
    memory.remember(torch.tensor([1, 2]), torch.zeros(2, 2), torch.tensor([1, 1]))
    assert memory.labels.tolist() == [UNKNOWN, 1, 1]
    assert memory.sizes.tolist() == [0, 2]
    assert not memory.centroids.any()


def test_embeddings_know_which_images_they_have_seen():
    memory = Embeddings(4, 3, 2)
    x = torch.nn.functional.normalize(normal(2, 3), dim=1).float()
    memory.update(torch.tensor([3, 1]), [x, 2 * x.flip(1)])
    assert memory.seen.tolist() == [False, True, False, True]
    torch.testing.assert_close(memory.rows(0)[[3, 1]], x)
    torch.testing.assert_close(memory.rows(1)[[3, 1]], x.flip(1))


@pytest.mark.parametrize(("count", "number"), [(5, 6), (5, 1)])
def test_more_clusters_than_images_and_a_single_cluster_are_refused(count, number):
    with pytest.raises(UserError, match="--clusters"):
        Clustering(count, number, 2)
