import pytest
import torch

from contract.small import build, stream
from references.instance import amdim_loss
from selftaught.errors import UserError
from selftaught.method import ViewBatch
from selftaught.methods.amdim import AMDIM
from selftaught.nn.residual import ResNetNano
from selftaught.nn.scales import AmdimNano
from selftaught.recipes.run import Pixels
from selftaught.views.image import Crop, Gray, View
from selftaught.views.local import TurnedAlike


def small(**more):
    torch.manual_seed(0)
    method = AMDIM(AmdimNano(channels=1, size=16, width=4, dim=8, depth=1), **more)
    for p in method.parameters():
        torch.nn.init.normal_(p, std=0.5)
    return method.double()


def two_views(n=4):
    g = torch.Generator().manual_seed(1)
    views = torch.randn(2, n, 1, 16, 16, generator=g, dtype=torch.float64)
    return ViewBatch(tuple(views), torch.arange(n))


def test_the_sum_of_the_terms_is_the_authors_loss():
    method = small(clip=2.0, penalty=0.3).eval()
    batch = two_views()
    with torch.no_grad():
        torch.manual_seed(5)
        terms = method(batch)
        torch.manual_seed(5)
        places = [torch.randint(25, (4,)).numpy() for _ in range(2)]
        views = [tuple(z.numpy() for z in method._embedded(x)) for x in batch.views]
    expected = amdim_loss(*views, *places, clip=2.0, weight=0.3)
    assert terms.keys() == {"1_to_5", "1_to_7", "5_to_5", "penalty"}
    assert sum(terms.values()).item() == pytest.approx(expected, rel=1e-9)


def test_the_embedding_of_the_whole_is_the_encoders_feature_itself():
    method = small().eval()
    x = two_views().views[0]
    with torch.no_grad():
        assert torch.equal(method._embedded(x)[0], method.encoder(x))


def test_the_views_are_alike_to_the_loss():
    method = small().eval()
    batch = two_views()
    with torch.no_grad():
        one = method(batch)
        other = method(ViewBatch(batch.views[::-1], batch.index))
    for name in ("1_to_5", "1_to_7"):
        torch.testing.assert_close(one[name], other[name])


def test_both_ends_of_every_pair_learn():
    run = build("amdim")
    method = run.method.train()
    for module in method.modules():  # away from the zeros that second convolutions begin with
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.normal_(module.weight, std=0.1)
    x = [v.requires_grad_() for v in next(stream(run)).views]
    for name in ("1_to_5", "1_to_7", "5_to_5"):
        term = method(ViewBatch(tuple(x), torch.arange(len(x[0]))))[name]
        assert all(g.abs().sum() > 0 for g in torch.autograd.grad(term, x)), name


def test_the_penalty_grows_with_the_scores():
    batch = two_views()
    assert small(penalty=0.0)(batch)["penalty"] == 0
    one, two = (small(penalty=p)(batch)["penalty"] for p in (0.1, 0.2))
    torch.testing.assert_close(two, 2 * one)


@pytest.mark.parametrize("encoder", ["resnet-nano", "vit-nano"])
def test_other_encoders_are_refused_in_one_line(encoder):
    with pytest.raises(UserError, match="--encoder amdim-nano") as refused:
        build("amdim", encoder=encoder)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("bad", [{"clip": 0.0}, {"penalty": -0.1}])
def test_bad_numbers_are_refused(bad):
    with pytest.raises(UserError, match="--score-clip"):
        small(**bad)
    with pytest.raises(UserError, match="amdim-nano"):
        AMDIM(ResNetNano(channels=1))


def test_all_views_are_mirrored_or_none():
    view = View(Crop(12, scale=(1.0, 1.0), ratio=(1.0, 1.0)), Gray(0.5))
    views = TurnedAlike([view, view], (0.0,) * 3, (1.0,) * 3)
    parameters = views.draw(torch.Generator().manual_seed(0), 64)
    x = torch.randint(0, 256, (64, 3, 12, 12), dtype=torch.uint8)
    one, two = views.crop(x, parameters)
    assert torch.equal(one, two)
    mirrored = (one != x).flatten(1).any(1)
    assert 16 < mirrored.sum() < 48
    grayed = [p[1].on for p in parameters]
    assert not torch.equal(*grayed)  # the rest is drawn for each view


def test_views_are_of_the_size_that_the_encoder_is_built_for():
    pixels = Pixels(channels=1, size=28, count=64, mean=(0.5,), std=(0.25,))
    run = build("amdim", pixels=pixels, width=4, dim=16)
    assert [view.size for view in run.views.views] == [28, 28]
