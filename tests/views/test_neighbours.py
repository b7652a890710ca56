import pickle

import pytest
import torch
from scipy.stats import chisquare

from selftaught.errors import UserError
from selftaught.nn.arrangements import CONFIGURATIONS, neighbours
from selftaught.trees import map_tree
from selftaught.views.aberration import KeepOneChannel
from selftaught.views.image import rows
from selftaught.views.neighbours import Neighbours
from selftaught.views.tiles import TilesAlone

N = 40
SETTINGS = {  # size, tile, gap, jitter, grid
    "two": (28, 10, 5, 1, 2),
    "three": (40, 8, 5, 2, 3),
    "tight": (13, 4, 3, 1, 2),
    "still": (12, 5, 1, 0, 2),
}
every_setting = pytest.mark.parametrize("setting", SETTINGS.values(), ids=SETTINGS)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def made(setting, *then):
    *sides, grid = setting
    return Neighbours(*sides, *then, grid=grid, scale=(1.0, 1.0))


def gradients(n, size):
    """Images that say in each pixel how far down and how far across it is."""
    place = torch.arange(size, dtype=torch.uint8)
    down, across = place[:, None].expand(size, size), place.expand(size, size)
    return torch.stack([down, across, torch.zeros_like(down)]).expand(n, 3, size, size)


def cut(setting):
    """Where each patch was really cut, read off its own pixels: (n, T, 2)."""
    view = made(setting)
    parameters = view.draw(generator(), N)
    tiles = view.apply(gradients(N, setting[0]), parameters) * 255
    found = tiles[:, :, :2, 0, 0].round().long()
    last = tiles[:, :, :2, -1, -1].round().long()
    assert tiles.shape == (N, setting[4] ** 2, 3, setting[1], setting[1])
    assert (last - found == setting[1] - 1).all()
    return found


def test_patches_keep_the_shape_of_what_they_show():
    view = Neighbours(28, 10, 5, 1, scale=(0.6, 1.0))
    boxes = view.cropper.cropper.boxes(view.draw(generator(), N)[0][0], 60, 40)
    assert torch.equal(boxes.height, boxes.width)
    assert boxes.height.min() >= round(0.6**0.5 * 40)
    assert len(boxes.top.unique()) > 5


@every_setting
def test_labels_say_where_patches_were_really_cut(setting):
    _, tile, gap, jitter, grid = setting
    corners = cut(setting)
    pairs = neighbours(grid)
    apart = corners[:, pairs.second] - corners[:, pairs.first]  # (n, P, 2)
    sides = torch.tensor(CONFIGURATIONS)[pairs.which]
    off = (apart - sides * (tile + gap)).abs()
    assert off.max() <= 2 * jitter
    assert torch.equal((apart.sign() * (apart.abs() >= tile)), sides.expand(N, -1, -1))


@every_setting
def test_patches_never_touch_and_lie_in_the_image(setting):
    size, tile, gap, jitter, grid = setting
    corners = cut(setting)
    assert corners.min() >= 0
    assert corners.max() + tile <= size
    pairs = neighbours(grid)
    apart = (corners[:, pairs.second] - corners[:, pairs.first]).abs() - tile
    assert apart.amax(2).min() >= gap - 2 * jitter >= 1


def test_starts_and_jitters_are_equally_likely():
    view = made((20, 5, 5, 2, 2))  # over 19 pixels: two places to start at
    place = view.draw(generator(), 3000)[1]
    moved = view.corners(place._replace(start=torch.zeros(3000, 2))) - torch.tensor(
        [[0, 0], [0, 10], [10, 0], [10, 10]]
    )
    assert chisquare(moved.flatten().bincount(minlength=5)).pvalue > 1e-3
    start = view.corners(place._replace(jitter=torch.zeros(3000, 4, 2)))[:, 0]
    assert chisquare(start.flatten().bincount(minlength=2)).pvalue > 1e-3
    assert len(place.jitter.flatten().unique()) > 3000 * 2 * 3  # each patch has its own


def test_each_patch_keeps_a_colour_of_its_own():
    view = made(SETTINGS["two"], KeepOneChannel())
    kept = torch.stack([chosen[0].kept for chosen in view.draw(generator(), N)[3]])
    assert not (kept == kept[0]).all()


def test_a_process_takes_its_rows_of_the_global_batch_and_views_travel():
    patches = Neighbours(20, 6, 3, 1, KeepOneChannel())
    views = pickle.loads(pickle.dumps(TilesAlone(patches, [0.5] * 3, [0.2] * 3)))
    x = torch.randint(0, 256, (N, 3, 20, 20), dtype=torch.uint8, generator=generator())
    state = torch.get_rng_state()
    parameters = views.draw(generator(), N)
    assert torch.equal(state, torch.get_rng_state())
    lengths = []
    map_tree(lambda tensor: lengths.append(len(tensor)) or tensor, parameters)
    assert set(lengths) == {N}
    whole = views.apply(views.crop(x, parameters), parameters)
    own = rows(parameters, slice(10, 20))
    for part, view in zip(views.apply(views.crop(x[10:20], own), own), whole, strict=True):
        torch.testing.assert_close(part, view[10:20], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("sides", "message"),
    [
        ((20, 6, 0, 0), "may touch"),
        ((20, 6, 2, 1), "may touch"),
        ((20, 0, 3, 1), "may touch"),
        ((16, 6, 3, 1), "over 17 pixels"),
    ],
)
def test_what_cannot_be_is_refused(sides, message):
    with pytest.raises(UserError, match=f"{message}.*;"):
        Neighbours(*sides)
