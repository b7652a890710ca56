import pickle

import pytest
import torch

from selftaught.errors import UserError
from selftaught.trees import map_tree
from selftaught.views.image import Gray, Jitter, rows
from selftaught.views.jigsaw import TILES, Jigsaw
from selftaught.views.tiles import TilesAlone, standardised

N, TILE, CELL = 12, 5, 8


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pixels(*shape, seed=0):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator(seed))


def alone(channels=3, **more):
    puzzle = Jigsaw(TILE, CELL, Jitter(0.4, 0.4, 0.4, 0.1), shuffled=False, flip=0.0, **more)
    return TilesAlone(puzzle, [0.4] * channels, [0.2] * channels)


def leaves(tree):
    found = []
    map_tree(lambda tensor: found.append(tensor) or tensor, tree)
    return found


@pytest.mark.parametrize("channels", [1, 3])
def test_a_tile_has_no_mean_and_no_contrast_of_its_own(channels):
    views, x = alone(channels), pixels(N, channels, 24, 24)
    parameters = views.draw(generator(), N)
    tiles = views.apply(views.crop(x, parameters), parameters)
    assert len(tiles) == TILES
    for tile in tiles:
        assert tile.shape == (N, channels, TILE, TILE)
        mean, std = tile.mean((2, 3)), tile.double().std((1, 2, 3), correction=0)
        torch.testing.assert_close(mean, torch.zeros(N, channels), rtol=0, atol=1e-5)
        torch.testing.assert_close(std, torch.ones(N, dtype=torch.float64), rtol=1e-5, atol=0)


def test_brightness_and_contrast_say_nothing_of_a_tile():
    x = torch.rand(2, 9, 3, TILE, TILE, generator=generator(), dtype=torch.float64)
    shift = torch.rand(2, 9, 3, 1, 1, generator=generator(1), dtype=torch.float64)
    factor = 0.5 + torch.rand(2, 9, 1, 1, 1, generator=generator(2), dtype=torch.float64)
    torch.testing.assert_close(standardised(factor * x + shift), standardised(x))
    one = x[1, 4]
    expected = (one - one.mean((1, 2), keepdim=True)) / (
        (one - one.mean((1, 2), keepdim=True)).square().mean().sqrt()
    )
    torch.testing.assert_close(standardised(x)[1, 4], expected)


def test_a_tile_that_shows_nothing_stays_flat():
    x = torch.full((2, 1, TILE, TILE), 0.3)
    x[1, 0, 0, 0] += 1e-4  # less than a grey level
    y = standardised(x)
    assert y[0].abs().max() < 1e-4
    assert y[1].abs().max() < 0.1


def test_half_precision_is_widened():
    assert standardised(torch.rand(1, 1, TILE, TILE).bfloat16()).dtype == torch.float32


def test_what_is_alike_is_drawn_once_an_image_and_comes_first():
    puzzle = Jigsaw(TILE, CELL, Jitter(0.4, 0.4, 0.4, 0.1), alike=[Gray(0.5)], flip=0.0)
    parameters = puzzle.draw(generator(), N)
    gray = [chosen[0].on for chosen in parameters[3]]
    assert all(torch.equal(on, gray[0]) for on in gray)
    assert 0 < gray[0].sum() < N
    factors = torch.stack([chosen[1].factors for chosen in parameters[3]])
    assert len(factors.flatten(1).unique(dim=0)) == TILES
    tiles = puzzle.apply(pixels(N, 3, 24, 24), parameters)
    same = (tiles - tiles[:, :, :1]).abs().amax((1, 2, 3, 4)) < 1e-5
    assert torch.equal(same, gray[0])


def test_a_process_takes_its_rows_of_the_global_batch_and_views_travel():
    views, x = pickle.loads(pickle.dumps(alone(alike=[Gray(0.5)]))), pixels(N, 3, 24, 24)
    parameters = views.draw(generator(), N)
    assert all(len(leaf) == N for leaf in leaves(parameters))
    whole = views.apply(views.crop(x, parameters), parameters)
    own = rows(parameters, slice(6, 12))
    for part, view in zip(views.apply(views.crop(x[6:], own), own), whole, strict=True):
        torch.testing.assert_close(part, view[6:], rtol=0, atol=1e-4)


def test_channels_must_agree_with_the_mean():
    views = alone(1)
    parameters = views.draw(generator(), N)
    with pytest.raises(UserError, match="channels"):
        views.apply(views.crop(pixels(N, 3, 24, 24), parameters), parameters)
