import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from contract.small import BATCH, PIXELS, build, steps, stream, whole
from references import clusters as reference
from selftaught.errors import UserError
from selftaught.method import ViewBatch
from selftaught.methods.deepcluster_v2 import DeepClusterV2
from selftaught.nn.clusters import UNKNOWN

SMALL = {"count": 30, "hidden": 16, "dim": 6, "clusters": 5}


class Flat(nn.Linear):
    dim = 8

    def __init__(self):
        super().__init__(12, self.dim)


def deepcluster(seed=0, **more):
    torch.manual_seed(seed)
    return DeepClusterV2(Flat(), **SMALL | more).double().eval()


def data(views=1, n=30, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(views, n, 12, generator=g, dtype=torch.float64)


def batches(x, left_out=()):
    for index in torch.arange(len(x)).split(8):
        index = torch.tensor([i for i in index.tolist() if i not in left_out])
        yield ViewBatch((x[index],), index)


@torch.no_grad()
def survey(method, *args):
    method.survey(batches(*args))


def nothing():
    """Batches that must not be looked at."""
    pytest.fail("the images were looked at")
    yield


@torch.no_grad()
def embeddings(method, x):
    return F.normalize(method.projector(method.encoder(x)), dim=1)


def test_the_first_survey_remembers_the_plain_views_and_clusters_them(monkeypatch):
    method, (x,) = deepcluster(), data()
    monkeypatch.setattr(torch, "randperm", torch.arange)
    survey(method, x)
    z = embeddings(method, x)
    for view in range(2):
        torch.testing.assert_close(method.memory.rows(view), z)
    centroids, labels = reference.spherical_kmeans(z.numpy(), z[:5].numpy(), 10)
    for clustering in method.clusterings:
        torch.testing.assert_close(clustering.centroids, torch.from_numpy(centroids))
        assert clustering.labels.tolist() == labels.tolist()


def test_later_surveys_cluster_what_the_steps_remembered_one_view_a_head(monkeypatch):
    method, (x,) = deepcluster(), data()
    survey(method, x)
    views, index = data(3, 12, seed=1), torch.arange(4, 16)
    method(ViewBatch(tuple(views), index))
    method.after_step()
    banks = [embeddings(method, x) for _ in range(2)]
    for bank, view in zip(banks, views, strict=False):
        bank[index] = embeddings(method, view)
    monkeypatch.setattr(torch, "randperm", torch.arange)
    method.survey(nothing())
    for head, clustering in enumerate(method.clusterings):
        bank = banks[head % 2]
        torch.testing.assert_close(method.memory.rows(head % 2), bank)
        centroids, labels = reference.spherical_kmeans(bank.numpy(), bank[:5].numpy(), 10)
        torch.testing.assert_close(clustering.centroids, torch.from_numpy(centroids))
        assert clustering.labels.tolist() == labels.tolist()
    assert not torch.equal(method.clusterings[0].labels, method.clusterings[1].labels)
    assert torch.equal(method.clusterings[0].labels, method.clusterings[2].labels)


def test_heads_begin_from_different_images():
    method, (x,) = deepcluster(), data()
    survey(method, x)
    labels = [tuple(c.labels.tolist()) for c in method.clusterings]
    assert len(set(labels)) == 3


@pytest.mark.parametrize("views", [2, 5])
def test_the_term_is_the_papers(views):
    method, (x,) = deepcluster(temperature=0.2), data()
    survey(method, x)
    index, crops = torch.tensor([7, 2, 29, 11]), data(views, 4, seed=1)
    z = torch.stack([embeddings(method, crop) for crop in crops])
    found = method(ViewBatch(tuple(crops), index))["clusters"].item()
    centroids = [c.centroids.numpy() for c in method.clusterings]
    targets = torch.stack([c.labels[index] for c in method.clusterings])
    expected = reference.deepcluster_v2_loss(z.numpy(), centroids, targets.numpy(), 0.2)
    assert found == pytest.approx(expected, rel=1e-9)


def test_an_image_that_could_not_be_surveyed_is_known_once_it_was_in_a_batch():
    method, (x,) = deepcluster(), data()
    survey(method, x, [5, 20])
    assert (method.clusterings[0].labels == UNKNOWN).nonzero().flatten().tolist() == [5, 20]
    method(ViewBatch(tuple(data(2, 1)), torch.tensor([5])))
    method.after_step()
    method.survey(nothing())
    assert (method.clusterings[0].labels == UNKNOWN).nonzero().flatten().tolist() == [20]


def test_centroids_are_not_trained():
    method = deepcluster()
    assert {n.split(".")[0] for n, _ in method.named_parameters()} == {"encoder", "projector"}


def test_images_are_looked_at_once_and_clusters_hold_for_an_epoch():
    run = build("deepcluster_v2")
    looked, labels = [], []
    inner = run.method.survey
    run.method.survey = lambda batches: inner(look(batches))

    def look(batches):
        for batch in batches:
            looked.append(len(batch.index))
            yield batch

    for _ in steps(run, 9, of=10):
        labels.append(torch.cat([c.labels for c in run.method.clusterings]))
    assert looked == [BATCH] * 4
    same = [torch.equal(a, b) for a, b in itertools.pairwise(labels)]
    assert same == [step not in (4, 8) for step in range(1, 9)]


def test_what_is_remembered_is_of_the_large_views_in_training_mode():
    run = build("deepcluster_v2")
    with torch.no_grad():
        run.method.eval().survey(whole())
        batch = next(stream(run))
        run.method.train()(batch)
        run.method.after_step()
        sizes = torch.cat(batch.views[:2]), torch.cat(batch.views[2:])
        h = torch.cat([run.method.encoder(x) for x in sizes])
        z = F.normalize(run.method.projector(h), dim=1).chunk(len(batch.views))
    for view in range(2):
        held = run.method.memory.rows(view)[batch.index]
        torch.testing.assert_close(held, z[view], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"clusters": PIXELS.count + 1}, "65 clusters of 64 images"),
        ({"clusters": 1}, "--clusters with 2 or more"),
        ({"heads": 0}, "--heads"),
        ({"iterations": -1}, "--iterations"),
        ({"temperature": 0.0}, "--temperature"),
        ({"crops": -1}, "--crops"),
    ],
)
def test_bad_settings_are_refused(settings, said):
    with pytest.raises(UserError, match=said):
        build("deepcluster_v2", **settings)
