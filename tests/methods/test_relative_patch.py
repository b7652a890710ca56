import dataclasses

import pytest
import torch

from contract.small import PIXELS, build, papers, stream
from methods.toy import Rows, rows
from references.pretext import relative_patch_loss
from selftaught.errors import UserError
from selftaught.method import ViewBatch
from selftaught.methods import RelativePatch
from selftaught.nn.residual import ResNetNano
from selftaught.views.aberration import KeepOneChannel, Project


def method(encoder=None, **more):
    torch.manual_seed(0)
    return RelativePatch(encoder or Rows(), **{"width": 4, "hidden": 7} | more).double()


def images(n=5, side=8, patches=4):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(patches, n, 1, side, side, generator=g, dtype=torch.float64)
    return ViewBatch(tuple(x.unbind()), torch.arange(n))


def sized(size, **more):
    return build("relative_patch", pixels=dataclasses.replace(PIXELS, size=size), **more)


@pytest.mark.parametrize("grid", [2, 3])
def test_loss_equals_the_reference_one_patch_at_a_time(grid):
    own, batch = method(grid=grid).eval(), rows(5, views=grid**2)
    features = torch.stack(
        [torch.cat([own.each(own.encoder(x[[i]])) for x in batch.views]).detach() for i in range(5)]
    )

    def head(pair):
        return own.both(torch.from_numpy(pair)[None])[0].detach().numpy()

    expected = relative_patch_loss(features.numpy(), grid, head)
    assert own(batch)["neighbour"].item() == pytest.approx(expected, rel=1e-9)


def test_no_patch_sees_another():
    own, batch = method(ResNetNano(channels=1), width=32).eval(), images()
    seen = []
    own.each.register_forward_hook(lambda _, __, y: seen.append(y))
    own(batch)
    own(ViewBatch((*batch.views[:3], batch.views[3] + 1), batch.index))
    moved = (seen[0] != seen[1]).any(1).view(4, 5)
    assert not moved[:3].any()
    assert moved[3].all()


def test_batch_norm_has_the_same_statistics_wherever_patches_lie():
    own, batch = method(ResNetNano(channels=1)).train(), images()
    seen = []
    own.each.register_forward_hook(lambda _, __, y: seen.append(y.detach().view(4, 5, -1)))
    own(batch)
    x = torch.stack(batch.views)
    x[:, 0] = x[[2, 0, 3, 1], 0]  # one image's patches change places, the others' don't
    own(ViewBatch(tuple(x.unbind()), batch.index))
    seen[0][:, 0] = seen[0][[2, 0, 3, 1], 0]
    torch.testing.assert_close(seen[1], seen[0])


@torch.no_grad()
def test_no_layer_of_the_head_can_be_silenced_by_its_norm():
    own, batch = method(width=8, hidden=8), rows(6, views=4)
    seen = {}
    own.each.register_forward_hook(lambda _, __, y: seen.update(each=y))
    own.both[0].register_forward_hook(lambda _, __, y: seen.update(both=y))
    for p in own.parameters():
        if p.ndim == 1:
            p.fill_(-100.0)  # a scale or a shift that leaves nothing above zero
    own(batch)
    for layer in (own.each, own.both[0]):
        assert [n for n, p in layer.named_parameters() if p.ndim == 1] == []
    for y in seen.values():
        assert (y > 0).any(0).all()  # each unit speaks for some row
        whole = y.square().mean(0)
        assert whole.min() > 0.1


def test_the_papers_settings_are_those_of_a_step_without_momentum():
    """train.py and solver_mko.prototxt: 1e-5 for the sum over pairs, no momentum, fixed.

    A step has 512 patches at most, in grids of 3 or 4 a side: 40 or 84 ordered pairs of neighbours.
    """
    run = papers("relative_patch")
    (group, *_) = run.optimizer.param_groups
    far = group["lr"] / (1 - group["momentum"])
    assert 1e-5 * 512 / 9 * 40 < far < 1e-5 * 512 / 16 * 84
    assert {run.schedule(share / 10) for share in range(10)} == {1.0}


def test_patches_that_are_all_alike_have_no_sides():
    own, batch = method(), rows(16)
    alike = ViewBatch((batch.views[0],) * 4, batch.index)
    shares = torch.tensor([1, 2, 1, 2, 2, 1, 2, 1]) / 12
    chance = -(shares * shares.log()).sum().item()
    optimizer = torch.optim.Adam(own.parameters(), lr=0.01)
    for _ in range(100):
        loss = own(alike)["neighbour"]
        assert loss.item() >= chance - 1e-9
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def test_the_recipe_shows_patches_with_gaps_normalised_one_by_one():
    run = build("relative_patch")
    (patches,) = run.views.views
    assert (patches.tile, patches.gap, patches.jitter, patches.grid) == (5, 3, 1, 2)
    views = next(stream(run)).views
    assert len(views) == 4
    for view in views:
        assert view.shape[1:] == (1, 5, 5)
        assert view.mean((1, 2, 3)).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("size", "grid", "tile", "gap", "jitter"),
    [(28, 2, 10, 5, 1), (28, 3, 6, 3, 1), (32, 2, 12, 6, 1), (254, 2, 96, 48, 7)],
)
def test_patches_have_the_papers_shares(size, grid, tile, gap, jitter):
    (patches,) = sized(size, grid=grid).views.views
    assert (patches.tile, patches.gap, patches.jitter) == (tile, gap, jitter)


@pytest.mark.parametrize("size", [16, 28, 32])
def test_a_transformers_patches_are_whole_ones(size):
    run = sized(size, encoder="vit-nano")
    assert run.views.views[0].tile % run.method.encoder.patch == 0


def test_a_small_gap_grows_with_the_jitter():
    (patches,) = sized(28, gap=0.01, jitter=0.2).views.views
    assert patches.gap == 2 * patches.jitter + 1


@pytest.mark.parametrize(
    ("guard", "kinds"), [("drop", [KeepOneChannel]), ("project", [Project]), ("none", [])]
)
def test_the_guard_is_that_asked_for(guard, kinds):
    (patches,) = sized(28, guard=guard).views.views
    assert [type(step) for step in patches.piece.then] == kinds


def test_an_encoder_of_one_size_is_refused():
    with pytest.raises(UserError, match="--encoder"):
        sized(32, encoder="swin_tiny_patch4_window7_224")


@pytest.mark.parametrize(
    ("size", "more", "works"),
    [
        (8, {}, "--size 13 or more"),
        (16, {"grid": 3}, "--size 20 or more"),
        (13, {"tile": 5}, "--tile 4$"),
        (28, {"tile": 11}, "--tile from 4 to 10$"),
        (28, {"tile": -1}, "--tile from 4 to 10$"),
        (32, {"encoder": "vit-nano", "tile": 6}, "--tile from 4 to 12 in steps of 4"),
        (28, {"grid": 1}, "--grid"),
        (28, {"gap": 0.0}, "--gap"),
        (28, {"jitter": -0.1}, "--jitter"),
        (28, {"guard": "prism"}, "--guard"),
    ],
)
def test_what_cannot_be_is_refused_with_what_works(size, more, works):
    with pytest.raises(UserError, match=works) as error:
        sized(size, **more)
    assert "\n" not in str(error.value)


def test_what_works_does():
    for size, more in ((13, {}), (20, {"grid": 3}), (28, {"tile": 10}), (28, {"tile": 4})):
        sized(size, **more)


@pytest.mark.parametrize("views", [3, 5])
def test_a_batch_without_its_patches_is_refused(views):
    with pytest.raises(UserError, match="4 patches"):
        method()(rows(3, views=views))
