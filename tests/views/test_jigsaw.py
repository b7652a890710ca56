import pickle

import pytest
import torch
from scipy.stats import chisquare

from selftaught.errors import UserError
from selftaught.trees import map_tree
from selftaught.views.image import Crop, Gray, Jitter, Solarize, View, rows
from selftaught.views.jigsaw import SIDE, TILES, Jigsaw, WithTiles

N, TILE, CELL = 12, 5, 8
COLOURS = (Jitter(0.4, 0.4, 0.4, 0.1), Gray(0.3), Solarize(0.5, 0.3))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pixels(*shape, seed=0):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator(seed))


def views(channels=3):
    image = View(Crop(10), *COLOURS)
    jigsaw = Jigsaw(TILE, CELL, *COLOURS)
    return WithTiles(image, jigsaw, mean=[0.4] * channels, std=[0.2] * channels)


def leaves(tree):
    found = []
    map_tree(lambda tensor: found.append(tensor) or tensor, tree)
    return found


def test_each_tile_is_cut_from_its_cell_at_its_place():
    jigsaw = Jigsaw(TILE, CELL, flip=0.0)
    x = pixels(N, 3, SIDE * CELL, SIDE * CELL)
    parameters = jigsaw.draw(generator(), N)
    found = jigsaw.apply(x, parameters)
    assert found.shape == (N, TILES, 3, TILE, TILE)
    order, place = parameters[1]
    for i in range(N):
        for k in range(TILES):
            row, column = divmod(order[i, k].item(), SIDE)
            down, across = (place[i, k] * (CELL - TILE + 1)).long().tolist()
            top, left = row * CELL + down, column * CELL + across
            expected = x[i, :, top : top + TILE, left : left + TILE]
            torch.testing.assert_close(found[i, k], expected / 255)


@pytest.mark.parametrize("square", [True, False])
def test_a_square_crop_keeps_the_shape_of_what_it_shows(square):
    jigsaw = Jigsaw(TILE, CELL, square=square)
    boxes = jigsaw.cropper.cropper.boxes(jigsaw.draw(generator(), 50)[0][0], 100, 140)
    assert torch.equal(boxes.height, boxes.width) == square


def test_every_cell_comes_once_and_every_order_is_as_likely():
    n = 4500
    tiles = Jigsaw(TILE, CELL).draw(generator(), n)[1]
    assert torch.equal(tiles.order.sort(1).values, torch.arange(TILES).expand(n, -1))
    for k in range(TILES):
        assert chisquare(tiles.order[:, k].bincount(minlength=TILES)).pvalue > 1e-3
    corners = (tiles.place * (CELL - TILE + 1)).long()
    assert chisquare(corners.flatten().bincount(minlength=CELL - TILE + 1)).pvalue > 1e-3


def test_tiles_as_large_as_cells_tile_the_crop():
    jigsaw = Jigsaw(CELL, CELL, flip=0.0)
    x = pixels(N, 1, SIDE * CELL, SIDE * CELL)
    parameters = jigsaw.draw(generator(), N)
    tiles = jigsaw.apply(x, parameters)
    solved = tiles.gather(1, parameters[1].order.argsort(1)[..., None, None, None].expand_as(tiles))
    grid = solved.view(N, SIDE, SIDE, 1, CELL, CELL).permute(0, 3, 1, 4, 2, 5)
    torch.testing.assert_close(grid.reshape(x.shape), x / 255)


def test_tiles_that_are_not_shuffled_come_row_by_row():
    plain = Jigsaw(TILE, CELL, flip=0.0, shuffled=False)
    parameters = plain.draw(generator(), N)
    assert torch.equal(parameters[1].order, torch.arange(TILES).expand(N, -1))
    x = torch.arange((SIDE * CELL) ** 2).view(1, 1, SIDE * CELL, -1) % 251
    tiles = plain.apply(x.expand(N, -1, -1, -1).byte(), parameters)
    for k in range(TILES):
        down, across = (parameters[1].place[:, k] * (CELL - TILE + 1)).long().unbind(1)
        corner = x[0, 0][k // SIDE * CELL + down, k % SIDE * CELL + across]
        torch.testing.assert_close(tiles[:, k, 0, 0, 0] * 255, corner.float())


def test_tiles_are_flipped_one_by_one():
    plain, turned = Jigsaw(TILE, CELL, flip=0.0), Jigsaw(TILE, CELL, flip=0.5)
    x, parameters = pixels(N, 3, SIDE * CELL, SIDE * CELL), turned.draw(generator(), N)
    flip = parameters[2]
    before, after = (jigsaw.apply(x, parameters) for jigsaw in (plain, turned))
    assert torch.equal(before, after)  # the parameters decide
    straight = turned.apply(x, (*parameters[:2], torch.zeros_like(flip), parameters[3]))
    expected = torch.where(flip[..., None, None, None], straight.flip(4), straight)
    assert torch.equal(after, expected)
    assert 0.3 < flip.float().mean() < 0.7
    assert not plain.draw(generator(), N)[2].any()


def test_each_tile_has_colours_of_its_own():
    jigsaw = Jigsaw(TILE, CELL, *COLOURS, flip=0.0)
    x = pixels(N, 3, SIDE * CELL, SIDE * CELL)
    parameters = jigsaw.draw(generator(), N)
    found = jigsaw.apply(x, parameters)
    plain = Jigsaw(TILE, CELL, flip=0.0).apply(x, (*parameters[:3], ((),) * TILES))
    for k, chosen in enumerate(parameters[3]):
        y = plain[:, k]
        for step, drawn in zip(COLOURS, chosen, strict=True):
            y = step.apply(y, drawn)
        torch.testing.assert_close(found[:, k], y)
    factors = torch.stack([chosen[0].factors for chosen in parameters[3]])
    assert len(factors.flatten(1).unique(dim=0)) == TILES


@pytest.mark.parametrize("channels", [1, 3])
def test_the_image_and_nine_tiles_are_views_of_their_own_normalised(channels):
    both, x = views(channels), pixels(N, channels, 24, 30)
    parameters = both.draw(generator(), N)
    crops = both.crop(x, parameters)
    image, *tiles = both.apply(crops, parameters)
    assert image.shape == (N, channels, 10, 10)
    assert [t.shape for t in tiles] == [(N, channels, TILE, TILE)] * TILES
    whole, jigsaw = both.views
    torch.testing.assert_close(image, (whole.apply(crops[0], parameters[0]) - 0.4) / 0.2)
    plain = jigsaw.apply(crops[1], parameters[1])
    torch.testing.assert_close(torch.stack(tiles, 1), (plain - 0.4) / 0.2)


def test_a_process_takes_its_rows_of_the_global_batch():
    both, x = views(), pixels(N, 3, 24, 24)
    parameters = both.draw(generator(), N)
    whole = both.apply(both.crop(x, parameters), parameters)
    assert all(len(leaf) == N for leaf in leaves(parameters))
    for mine in (slice(0, 6), torch.arange(6, 12), [1, 5, 11]):
        own = rows(parameters, mine)
        for part, view in zip(both.apply(both.crop(x[mine], own), own), whole, strict=True):
            torch.testing.assert_close(part, view[mine], rtol=0, atol=1e-5)


def test_the_generator_is_all_that_it_depends_on_and_it_travels():
    both, x = views(), pixels(N, 3, 24, 24)
    copy = pickle.loads(pickle.dumps(both))
    state = torch.get_rng_state()
    one, two, other = (v.draw(generator(s), N) for v, s in ((both, 1), (copy, 1), (both, 2)))
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(a, b) for a, b in zip(leaves(one), leaves(two), strict=True))
    assert not torch.equal(one[1][1].order, other[1][1].order)
    crops = both.crop(x, one)
    before = [c.clone() for c in crops]
    for a, b in zip(both.apply(crops, one), copy.apply(copy.crop(x, two), two), strict=True):
        assert torch.equal(a, b)
    assert all(torch.equal(a, b) for a, b in zip(crops, before, strict=True))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Jigsaw(0, 8),
        lambda: Jigsaw(9, 8),
        lambda: Jigsaw(5, 8, flip=1.5),
        lambda: Jigsaw(5, 8, scale=(0.9, 0.6)),
    ],
)
def test_what_cannot_be_is_refused(make):
    with pytest.raises(UserError, match=";"):
        make()
