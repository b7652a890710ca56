import pytest
import torch
from torch import nn

from contract.small import PIXELS, build, images, steps, stream, train, whole
from references import clusters as reference
from selftaught.errors import UserError
from selftaught.method import ViewBatch
from selftaught.methods.deepcluster import DeepCluster
from selftaught.nn.clusters import UNKNOWN


class Flat(nn.Linear):
    dim = 8

    def __init__(self):
        super().__init__(12, self.dim)


def deepcluster(seed=0, **more):
    torch.manual_seed(seed)
    settings = {"count": 30, "clusters": 4, "components": 3, **more}
    return DeepCluster(Flat(), **settings).double()


def data(n=30, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, 12, generator=g, dtype=torch.float64)


def batches(x, left_out=()):
    for index in torch.arange(len(x)).split(8):
        index = torch.tensor([i for i in index.tolist() if i not in left_out])
        yield ViewBatch((x[index],), index)


@torch.no_grad()
def survey(method, *args):
    method.survey(batches(*args))


def test_labels_are_those_of_the_papers_kmeans(monkeypatch):
    method, x = deepcluster(clusters=3), data()
    monkeypatch.setattr(torch, "randperm", torch.arange)
    survey(method, x)
    features = method.encoder(x).detach().numpy()
    white = reference.deepcluster_features(features, 3)
    _, labels = reference.kmeans(white, white[:3], 20)
    assert method.clustering.labels.tolist() == labels.tolist()


def test_the_term_is_the_papers():
    method, x = deepcluster(), data()
    survey(method, x)
    nn.init.normal_(method.classifier.weight)
    labels = method.clustering.labels
    weights = reference.cluster_weights(labels.numpy())
    index = torch.tensor([7, 2, 29, 11])
    found = method(ViewBatch((x[index],), index))["clusters"].item()
    logits = method.classifier(method.encoder(x[index])).detach().numpy()
    expected = reference.deepcluster_loss(logits, labels[index].numpy(), weights[index.numpy()])
    assert found == pytest.approx(expected, rel=1e-9)


def test_an_image_that_could_not_be_surveyed_has_no_cluster_and_no_loss():
    method, x = deepcluster(), data()
    survey(method, x, [5, 20])
    labels = method.clustering.labels
    assert (labels == UNKNOWN).nonzero().flatten().tolist() == [5, 20]
    assert method.clustering.sizes.sum() == 28
    index = torch.tensor([5, 20])
    assert method(ViewBatch((x[index],), index))["clusters"].item() == 0


def test_every_survey_finds_new_clusters_and_a_new_classifier():
    method, x = deepcluster(), data()
    survey(method, x)
    labels, weight = method.clustering.labels.clone(), method.classifier.weight.clone()
    bias = method.classifier.bias
    with torch.no_grad():
        bias += 1
    survey(method, x)
    assert not torch.equal(method.clustering.labels, labels)
    assert not torch.equal(method.classifier.weight, weight)
    assert method.classifier.weight.std().item() == pytest.approx(0.01, rel=0.5)
    assert not bias.any()


def test_no_cluster_is_empty():
    method = deepcluster(clusters=29)
    survey(method, data(10).repeat(3, 1))
    assert method.clustering.sizes.min() > 0


def test_clusters_come_from_plain_views_in_eval_mode_before_an_epochs_first_step():
    run, seen = build("deepcluster"), []
    inner = run.method.survey

    def watched(batches):
        assert not run.method.training
        assert not torch.is_grad_enabled()
        found = list(batches)
        seen.append([len(batch.index) for batch in found])
        inner(found)

    run.method.survey = watched
    train(run, 9, of=10)
    assert seen == [[16] * 4] * 3


def test_clusters_hold_within_an_epoch_and_the_classifier_is_learnt_in_it():
    run = build("deepcluster", lr=1e-2)
    with torch.no_grad():
        run.method.eval().survey(whole())
    labels = run.method.clustering.labels.clone()
    run = type(run)(**vars(run) | {"survey_every": 0})
    losses = [step.terms["clusters"].item() for step in steps(run, 30, fixed=True)]
    assert losses[-1] < 0.5 * losses[0]
    assert torch.equal(run.method.clustering.labels, labels)


def test_a_view_is_one_and_random():
    run = build("deepcluster")
    batch = next(stream(run))
    assert len(batch.views) == 1
    assert batch.views[0].shape == (16, 1, 16, 16)
    plain = (images()[batch.index].float() / 255 - PIXELS.mean[0]) / PIXELS.std[0]
    assert not torch.allclose(batch.views[0], plain, atol=0.1)


def test_features_that_are_not_finite_are_refused():
    method, x = deepcluster(), data()
    with pytest.raises(UserError, match="not finite"):
        survey(method, x / 0)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"clusters": PIXELS.count + 1}, "65 clusters of 64 images"),
        ({"clusters": 1}, "--clusters with 2 or more"),
        ({"components": 0}, "--components from 1 to 63"),
        ({"components": 64}, "--components from 1 to 63"),
        ({"iterations": -1}, "--iterations"),
    ],
)
def test_bad_settings_are_refused(settings, said):
    with pytest.raises(UserError, match=said):
        build("deepcluster", **settings)


def test_as_many_clusters_as_images_will_do():
    run = build("deepcluster", clusters=64)
    train(run, 1)
    assert run.method.clustering.sizes.tolist() == [1] * 64


def test_a_batch_larger_than_the_data_is_an_epoch():
    assert build("deepcluster", batch_size=65).survey_every == 1
    assert build("deepcluster", batch_size=24).survey_every == 2
