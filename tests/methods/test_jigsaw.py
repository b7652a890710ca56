import dataclasses
import math

import pytest
import torch

from contract.small import PIXELS, build, papers, stream
from methods.toy import Rows, rows
from references.pretext import jigsaw_loss
from selftaught.errors import UserError
from selftaught.method import ViewBatch
from selftaught.methods import Jigsaw
from selftaught.nn.arrangements import permutations
from selftaught.nn.residual import ResNetNano

TILES, COUNT = 9, 12


def jigsaw(encoder=None, **more):
    torch.manual_seed(0)
    settings = {"permutations": COUNT, "width": 4, "hidden": 7} | more
    return Jigsaw(encoder or Rows(), **settings).double()


def images(n=5, side=8, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(TILES, n, 1, side, side, generator=g, dtype=torch.float64)
    return ViewBatch(tuple(x.unbind()), torch.arange(n))


def drawn(n, seed=3):
    torch.manual_seed(seed)
    which = torch.randint(COUNT, (n,))
    torch.manual_seed(seed)
    return which


def test_loss_equals_the_reference_one_tile_at_a_time():
    method, batch = jigsaw().eval(), rows(5, views=TILES)
    features = torch.stack(
        [
            torch.cat([method.each(method.encoder(x[[i]])).relu() for x in batch.views])
            for i in range(5)
        ]
    )

    def solver(joined):
        return method.all(torch.from_numpy(joined)[None])[0].detach().numpy()

    which = drawn(5)
    parts = features.detach(), permutations(TILES, COUNT), which
    expected = jigsaw_loss(*(x.numpy() for x in parts), solver)
    assert method(batch)["permutation"].item() == pytest.approx(expected, rel=1e-9)


def test_shuffling_features_is_shuffling_tiles_batch_norm_or_not():
    """Whatever the order, batch norm has the same statistics: they can't tell it."""
    method, batch = jigsaw(ResNetNano(channels=1)).train(), images()
    seen = []
    method.all.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    which = drawn(5)
    method(batch)
    order = method.orders[which]  # (B, 9)
    x = torch.stack(batch.views, dim=1)
    shuffled = torch.stack([x[i, order[i]] for i in range(5)]).unbind(1)
    method.orders.copy_(torch.arange(TILES).expand(COUNT, -1))
    method(ViewBatch(shuffled, batch.index))
    torch.testing.assert_close(seen[0], seen[1])
    assert not torch.equal(order, torch.arange(TILES).expand(5, -1))


def test_no_tile_sees_another():
    method, batch = jigsaw(ResNetNano(channels=1)).eval(), images()
    seen = []
    method.all.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    which = drawn(5)
    method(batch)
    changed = list(batch.views)
    changed[4] = changed[4] + 1
    drawn(5)
    method(ViewBatch(tuple(changed), batch.index))
    moved = (seen[0] != seen[1]).view(5, TILES, -1).any(2)
    assert torch.equal(moved, method.orders[which] == 4)


def test_every_permutation_is_drawn():
    method, batch = jigsaw(), rows(200, views=TILES)
    seen = []
    method.all.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    method(ViewBatch(tuple(x[:1].expand(200, -1) for x in batch.views), batch.index))
    assert len(seen[0].float().unique(dim=0)) == COUNT


def test_tiles_that_are_all_alike_cannot_be_ordered():
    method, batch = jigsaw(), rows(64)
    alike = ViewBatch((batch.views[0],) * TILES, batch.index)
    optimizer = torch.optim.Adam(method.parameters(), lr=0.01)
    losses = []
    for seed in range(150):
        torch.manual_seed(seed)
        loss = method(alike)["permutation"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-20:]) / 20 > 0.97 * math.log(COUNT)


def test_the_recipe_shows_nine_tiles_in_order_with_gaps_normalised_one_by_one():
    run = build("jigsaw")
    (cut,) = run.views.views
    assert (cut.tile, cut.cell, cut.shuffled, cut.flip) == (4, 5, False, 0.0)
    assert cut.cropper.size == 15
    views = next(stream(run)).views
    assert len(views) == TILES
    for view in views:
        assert view.shape[1:] == (1, 4, 4)
        assert view.mean((1, 2, 3)).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("size", "channels", "tile", "shift"), [(28, 1, 8, 0), (32, 3, 9, 0), (225, 3, 64, 2)]
)
def test_tiles_have_the_papers_share_of_their_cells(size, channels, tile, shift):
    pixels = dataclasses.replace(
        PIXELS, size=size, channels=channels, mean=(0.5,) * channels, std=(0.2,) * channels
    )
    (cut,) = build("jigsaw", pixels=pixels).views.views
    assert (cut.tile, cut.cell) == (tile, size // 3)
    assert cut.piece.then[0].p == 0.3  # gray puzzles, all tiles alike
    assert cut.alike == 1
    assert cut.piece.then[1].limit == shift


@pytest.mark.parametrize("size", [16, 28, 30, 32])
def test_a_transformers_tiles_are_whole_patches_and_have_gaps(size):
    run = build("jigsaw", encoder="vit-nano", pixels=dataclasses.replace(PIXELS, size=size))
    (cut,) = run.views.views
    assert cut.tile % run.method.encoder.patch == 0
    assert 4 <= cut.tile < cut.cell


def test_a_puzzle_keeps_the_shape_of_what_it_shows():
    (cut,) = build("jigsaw").views.views
    boxes = cut.cropper.cropper.boxes(
        cut.draw(torch.Generator().manual_seed(0), 50)[0][0], 300, 400
    )
    assert torch.equal(boxes.height, boxes.width)
    assert boxes.height.min() >= round(0.77**0.5 * 300)
    assert len(boxes.left.unique()) > 10


def test_the_papers_rate_falls_every_hundred_thousand_steps():
    """solver_cfn_jps.prototxt: a tenth every 100,000 of 350,000 steps."""
    schedule = papers("jigsaw").schedule
    for step in (0, 99_000, 101_000, 199_000, 201_000, 299_000, 301_000, 349_999):
        assert schedule(step / 350_000) == pytest.approx(0.1 ** (step // 100_000))


def test_an_encoder_of_one_size_is_refused():
    pixels = dataclasses.replace(PIXELS, size=32)
    with pytest.raises(UserError, match="--encoder"):
        build("jigsaw", pixels=pixels, encoder="swin_tiny_patch4_window7_224")


@pytest.mark.parametrize(
    ("size", "more", "works"),
    [
        (8, {}, "--size 15 or more"),
        (14, {}, "--size 15 or more"),
        (16, {"tile": 5}, "--tile 4$"),
        (28, {"tile": 10}, "--tile from 4 to 8$"),
        (28, {"tile": 3}, "--tile from 4 to 8$"),
        (28, {"tile": -1}, "--tile from 4 to 8$"),
        (28, {"encoder": "vit-nano", "tile": 6}, "--tile from 4 to 8 in steps of 4$"),
        (28, {"permutations": 1}, "--permutations"),
        (28, {"channel_shift": -0.1}, "--channel-shift"),
    ],
)
def test_what_cannot_be_is_refused_with_what_works(size, more, works):
    with pytest.raises(UserError, match=works) as error:
        build("jigsaw", pixels=dataclasses.replace(PIXELS, size=size), **more)
    assert "\n" not in str(error.value)


def test_what_works_does():
    for size, more in ((15, {}), (16, {"tile": 4}), (28, {"encoder": "vit-nano", "tile": 4})):
        build("jigsaw", pixels=dataclasses.replace(PIXELS, size=size), **more)


@pytest.mark.parametrize("views", [8, 10])
def test_a_batch_without_nine_tiles_is_refused(views):
    with pytest.raises(UserError, match="9 tiles"):
        jigsaw()(rows(3, views=views))
