import pytest
import torch

from contract.small import PIXELS, build, stream
from references.instance import softmax_cross_entropy
from selftaught.errors import UserError
from selftaught.method import ViewBatch
from selftaught.methods.exemplar import Exemplar
from selftaught.nn.residual import ResNetNano
from selftaught.recipes import RECIPES
from selftaught.recipes.run import Pixels


def test_an_images_place_is_its_class():
    run = build("exemplar")
    method = run.method.double().eval()
    batch = next(stream(run, dtype=torch.float64))
    with torch.no_grad():
        loss = method(batch)["surrogate_class"].item()
        scores = method.classifier(method.encoder(batch.views[0]))
    expected = softmax_cross_entropy(scores.numpy(), batch.index.numpy())
    assert loss == pytest.approx(expected, rel=1e-9)


def test_the_classifier_sees_the_feature_with_dropout_in_training():
    class Ones(torch.nn.Module):
        dim = 4000

        def forward(self, x):
            return torch.ones(len(x), self.dim)

    method = Exemplar(Ones(), classes=3, dropout=0.4).train()
    seen = []
    method.classifier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    batch = ViewBatch((torch.zeros(2, 1),), torch.arange(2))
    method(batch)
    method.eval()(batch)
    dropped, whole = seen
    values = torch.unique(dropped)
    torch.testing.assert_close(values, torch.tensor([0.0, 1 / 0.6]))
    assert dropped.mean().item() == pytest.approx(1, abs=0.05)
    assert not torch.equal(dropped[0], dropped[1])
    assert (whole == 1).all()


def test_there_are_as_many_classes_as_images_to_train_on():
    run = build("exemplar")
    assert run.images == run.method.classifier.out_features == PIXELS.count
    run = build("exemplar", classes=20)
    assert run.images == run.method.classifier.out_features == 20


def test_the_paper_trains_on_eight_thousand_and_short_runs_on_fewer():
    many = Pixels(channels=1, size=16, count=60000, mean=(0.5,), std=(0.25,))
    assert RECIPES["exemplar"].published["classes"] == 8000
    assert build("exemplar", pixels=many).images == 2000


def test_the_view_is_made_as_asked():
    (view,) = build("exemplar", smallest_patch=0.3, largest_patch=0.6, contrast=0.5).views.views
    assert view.cropper.share == (0.3, 0.6)
    assert view.cropper.source == PIXELS.size
    assert view.then[0].strength == 0.5


@pytest.mark.parametrize("classes", [1, 15])
def test_fewer_classes_than_a_batch_are_refused(classes):
    with pytest.raises(UserError, match="--classes"):
        build("exemplar", classes=classes)


@pytest.mark.parametrize("bad", [{"classes": 1}, {"classes": 9, "dropout": 1.0}])
def test_bad_numbers_are_refused(bad):
    with pytest.raises(UserError, match=r"--classes|--dropout"):
        Exemplar(ResNetNano(channels=1), **bad)
