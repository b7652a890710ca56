import colorsys
import math

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as TF
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, kstest

from references.instance import patch_probabilities
from selftaught.errors import UserError
from selftaught.views import exemplar as module
from selftaught.views.exemplar import (
    Contrast,
    ContrastParameters,
    Patch,
    PatchParameters,
    PatchView,
    Seeds,
    log_uniform,
    moved,
    quantiles,
    raise_contrast,
    scale_components,
    seed_patches,
)
from selftaught.views.image import Jitter, Views


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pixels(*shape, seed=0):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator(seed))


# Seed patches


def at_quantiles(monkeypatch, x, scale, place, share):
    """The seeds of x where the hash says these quantiles."""
    numbers = (torch.full((len(x),), scale).double(), place)
    monkeypatch.setattr(module, "quantiles", lambda _: numbers)
    return seed_patches(x, share)


@pytest.mark.parametrize("side", [1, 3, 6, 9])
def test_places_are_drawn_by_the_papers_probabilities(monkeypatch, side):
    image = pixels(1, 1, 9, 9)
    expected = np.zeros((9, 9))
    places = 10 - side
    expected[:places, :places] = patch_probabilities(image[0, 0].numpy(), side)
    count = 20000
    place = (torch.arange(count).double() + 0.5) / count
    x = image.expand(count, -1, -1, -1)
    found = at_quantiles(monkeypatch, x, 0.0, place, (side / 9, side / 9))
    assert (found.side == side).all()
    share = np.zeros((9, 9))
    np.add.at(share, (found.top.numpy(), found.left.numpy()), 1 / count)
    np.testing.assert_allclose(share, expected, atol=1.01 / count)


def test_colours_count_together(monkeypatch):
    image = pixels(1, 3, 8, 8)
    energies = []
    for channel in image[0]:
        d_row, d_column = np.gradient(channel.double().numpy())
        energies.append(d_row**2 + d_column**2)
    energy = np.sum(energies, axis=0)
    sums = np.array([[energy[t : t + 5, s : s + 5].sum() for s in range(4)] for t in range(4)])
    count = 10000
    place = (torch.arange(count).double() + 0.5) / count
    found = at_quantiles(monkeypatch, image.expand(count, -1, -1, -1), 0.0, place, (5 / 8, 5 / 8))
    share = np.zeros((4, 4))
    np.add.at(share, (found.top.numpy(), found.left.numpy()), 1 / count)
    np.testing.assert_allclose(share, sums / sums.sum(), atol=1.01 / count)


def test_an_image_without_gradients_has_all_places_equally(monkeypatch):
    count = 900
    place = (torch.arange(count).double() + 0.5) / count
    x = torch.full((count, 1, 7, 7), 9, dtype=torch.uint8)
    found = at_quantiles(monkeypatch, x, 0.0, place, (5 / 7, 5 / 7))
    counts = torch.bincount(found.top * 3 + found.left, minlength=9)
    assert counts.tolist() == [100] * 9


def test_the_side_is_uniform_in_its_range(monkeypatch):
    x = pixels(1, 1, 20, 20)
    half = torch.tensor([0.5]).double()
    for scale, side in ((0.0, 10), (0.5, 14), (0.999, 18)):
        assert at_quantiles(monkeypatch, x, scale, half, (0.5, 0.9)).side.item() == side


def test_the_patch_of_an_image_is_the_same_in_every_batch():
    x = pixels(50, 3, 12, 12)
    whole = seed_patches(x, (0.3, 0.9))
    order = torch.randperm(50, generator=generator())
    shuffled = seed_patches(x[order], (0.3, 0.9))
    alone = [seed_patches(x[i : i + 1], (0.3, 0.9)) for i in range(50)]
    for name in Seeds._fields:
        assert torch.equal(getattr(shuffled, name), getattr(whole, name)[order])
        assert torch.equal(torch.cat([getattr(s, name) for s in alone]), getattr(whole, name))


def test_patches_of_different_images_differ_at_random():
    scale, place = quantiles(pixels(4000, 1, 8, 8))
    for found in (scale, place):
        assert ((found >= 0) & (found < 1)).all()
        assert kstest(found, "uniform").pvalue > 0.01
    cells = (scale * 10).long() * 10 + (place * 10).long()
    assert chisquare(torch.bincount(cells, minlength=100)).pvalue > 0.01


def test_one_level_of_one_pixel_makes_another_quantile():
    x = pixels(1, 1, 8, 8)
    other = x.clone()
    other[0, 0, 3, 5] ^= 1
    assert quantiles(x)[0] != quantiles(other)[0]
    assert quantiles(x)[1] != quantiles(other)[1]


@given(st.integers(1, 40), st.integers(1, 3), st.floats(0.01, 1.0), st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_patches_lie_inside_the_image(size, channels, low, seed):
    x = pixels(3, channels, size, size, seed=seed)
    found = seed_patches(x, (low, 1.0))
    assert (found.side >= 1).all()
    assert (found.top >= 0).all()
    assert (found.left >= 0).all()
    assert (found.top + found.side <= size).all()
    assert (found.left + found.side <= size).all()


# Moving them


def whole(n, side):
    return Seeds(*torch.tensor([0, 0, side]).expand(n, 3).unbind(1))


@pytest.mark.parametrize("side", [16, 17])
def test_moving_a_whole_image_is_torchvisions_affine(side):
    x = pixels(12, 3, side, side).float()
    parameters = Patch(size=side, source=side).draw(generator(1), 12)
    ours = moved(x, whole(12, side), parameters, side)
    inside = torch.ones(1, side, side)
    for i in range(12):
        options = {
            "angle": parameters.angle[i].item(),
            "translate": [side * t for t in parameters.shift[i].tolist()],
            "scale": 1 / parameters.scale[i].item(),
            "shear": [0.0, 0.0],
            "interpolation": TF.InterpolationMode.BILINEAR,
        }
        theirs = TF.affine(x[i], **options)
        known = TF.affine(inside, **options)[0] > 0.9999  # nothing from beyond the image
        assert known.float().mean() > 0.2
        torch.testing.assert_close(ours[i][:, known], theirs[:, known], atol=0.05, rtol=0)


def test_a_patch_that_is_not_moved_is_the_patch():
    x = pixels(2, 1, 12, 12).float()
    seed = Seeds(torch.tensor([3, 0]), torch.tensor([5, 2]), torch.tensor([6, 6]))
    still = PatchParameters(torch.zeros(2, 2), torch.ones(2), torch.zeros(2))
    y = moved(x, seed, still, 6)
    torch.testing.assert_close(y[0], x[0, :, 3:9, 5:11], atol=1e-3, rtol=0)
    torch.testing.assert_close(y[1], x[1, :, 0:6, 2:8], atol=1e-3, rtol=0)


def test_a_patch_is_moved_as_an_image_around_it():
    x = pixels(1, 1, 24, 24).float()
    parameters = PatchParameters(
        torch.tensor([[0.1, -0.15]]), torch.tensor([1.2]), torch.tensor([17.0])
    )
    large = Seeds(*(torch.tensor([v]) for v in (6, 8, 12)))
    alone = x[:, :, 6:18, 8:20]
    y, z = moved(x, large, parameters, 12), moved(alone, whole(1, 12), parameters, 12)
    torch.testing.assert_close(y[..., 4:8, 4:8], z[..., 4:8, 4:8], atol=0.05, rtol=0)


def test_beyond_the_image_lies_its_mirror_image():
    x = torch.arange(8.0).expand(1, 1, 8, 8).contiguous()
    right = PatchParameters(torch.tensor([[0.25, 0.0]]), torch.ones(1), torch.zeros(1))
    y = moved(x, whole(1, 8), right, 8)
    torch.testing.assert_close(
        y[0, 0, 0], torch.tensor([1.0, 0, 0, 1, 2, 3, 4, 5]), atol=1e-4, rtol=0
    )


def test_ranges_are_the_papers():
    drawn = Patch(size=8, source=8).draw(generator(), 4000)
    assert kstest(drawn.shift.flatten(), "uniform", args=(-0.2, 0.4)).pvalue > 0.01
    assert kstest(drawn.angle, "uniform", args=(-20, 40)).pvalue > 0.01
    assert kstest(drawn.scale.log(), "uniform", args=(math.log(0.7), math.log(2))).pvalue > 0.01
    drawn = Contrast().draw(generator(), 4000)
    assert kstest(drawn.components.log2().flatten(), "uniform", args=(-1, 2)).pvalue > 0.01
    assert kstest(drawn.power.log2(), "uniform", args=(-2, 4)).pvalue > 0.01
    assert kstest(drawn.factor.log(), "uniform", args=(math.log(0.7), math.log(2))).pvalue > 0.01
    assert kstest(drawn.added, "uniform", args=(-0.1, 0.2)).pvalue > 0.01


# Contrast


def test_components_are_those_of_the_patchs_colours():
    x = torch.rand(4, 3, 5, 6, generator=generator()) * 0.2 + 0.4  # nothing is clipped
    factors = log_uniform(generator(1), 4, 3, bounds=(0.5, 2.0))
    found = scale_components(x, factors).double().numpy()
    for i in range(4):
        colours = x[i].double().flatten(1).numpy()  # (3, N)
        mean = colours.mean(1, keepdims=True)
        values, axes = np.linalg.eigh(np.cov(colours))
        assert (np.diff(values) > 0).all()
        expected = mean + sum(
            f * np.outer(a, a @ (colours - mean))
            for f, a in zip(factors[i].double().numpy(), axes.T, strict=True)
        )
        np.testing.assert_allclose(found[i].reshape(3, -1), expected, atol=1e-5)


def test_one_channel_is_stretched_about_its_mean():
    x = torch.rand(3, 1, 4, 4, generator=generator()) * 0.2 + 0.4
    factor = torch.tensor([[0.5], [1.0], [2.0]])
    mean = x.mean((2, 3), keepdim=True)
    expected = mean + factor[:, :, None, None] * (x - mean)
    torch.testing.assert_close(scale_components(x, factor.expand(-1, 3)), expected)


def test_saturation_and_value_change_and_the_hue_stays():
    x = torch.rand(6, 3, 4, 4, generator=generator())
    x[:, :, 0] = x[:, :1, 0]  # gray
    x[:, :, 1] = 0
    x[:, 1, 2] = 1
    _, *drawn = Contrast().draw(generator(2), 6)
    found = raise_contrast(x, *drawn)
    for i in range(6):
        power, factor, added = (p[i].item() for p in drawn)
        for row in range(4):
            for column in range(4):
                hue, saturation, value = colorsys.rgb_to_hsv(*x[i, :, row, column].tolist())
                saturation, value = (
                    min(max(y**power * factor + added, 0), 1) for y in (saturation, value)
                )
                if row < 2:  # gray has no hue that more saturation could show
                    saturation = 0
                expected = torch.tensor(colorsys.hsv_to_rgb(hue, saturation, value)).float()
                torch.testing.assert_close(found[i, :, row, column], expected, atol=1e-5, rtol=0)


def test_gray_images_change_by_their_value():
    x = torch.rand(5, 1, 3, 3, generator=generator())
    _, *drawn = Contrast().draw(generator(2), 5)
    power, factor, added = (p[:, None, None, None] for p in drawn)
    expected = (x**power * factor + added).clamp(0, 1)
    torch.testing.assert_close(raise_contrast(x, *drawn), expected, atol=1e-6, rtol=0)


def test_both_changes_of_contrast_follow_one_another():
    x = torch.rand(4, 3, 5, 5, generator=generator())
    drawn = Contrast().draw(generator(2), 4)
    expected = raise_contrast(scale_components(x, drawn.components), *drawn[1:])
    assert torch.equal(Contrast().apply(x, drawn), expected)


def test_gray_colours_stay_gray():
    x = torch.rand(8, 1, 6, 6, generator=generator()).expand(-1, 3, -1, -1)
    found = Contrast().apply(x, Contrast().draw(generator(2), 8))
    assert (found.amax(1) - found.amin(1)).max() < 0.01


def test_without_strength_nothing_changes():
    x = torch.rand(5, 3, 3, 3, generator=generator())
    drawn = Contrast(0.0).draw(generator(2), 5)
    torch.testing.assert_close(Contrast(0.0).apply(x, drawn), x, atol=1e-5, rtol=0)
    assert isinstance(drawn, ContrastParameters)


# The view


def test_a_view_moves_the_seed_patch_and_then_changes_colours():
    patch = Patch(size=10, source=12)
    view = PatchView(patch, Contrast(), Jitter(0.0, 0.0, 0.0, 0.1, p=1.0))
    x = pixels(20, 3, 12, 12)
    drawn = view.draw(generator(3), 20)
    crops = view.crop(x, drawn)
    expected = moved(x, seed_patches(x, patch.share), drawn[0], 10)
    assert crops.dtype == torch.uint8
    torch.testing.assert_close(crops.float(), expected, atol=0.51, rtol=0)
    y = Views([view], (0.5,) * 3, (0.25,) * 3).apply([crops], [drawn])[0]
    contrasted = Contrast().apply(crops / 255, drawn[1])
    z = (view.then[1].apply(contrasted, drawn[2]) - 0.5) / 0.25
    torch.testing.assert_close(y, z)


def test_files_of_several_sizes_are_cut_to_one():
    view = PatchView(Patch(size=8, source=16))
    images = [pixels(1, 30, 40), pixels(1, 25, 20, seed=1)]
    assert view.crop(images, view.draw(generator(), 2)).shape == (2, 1, 8, 8)


@pytest.mark.parametrize(
    "bad", [{"share": (0.5, 1.1)}, {"share": (0.9, 0.5)}, {"size": 0}, {"scale": (0.0, 1.0)}]
)
def test_bad_patches_are_refused(bad):
    with pytest.raises(UserError, match="give"):
        Patch(**{"size": 8, "source": 16, **bad})
    with pytest.raises(UserError, match="contrast"):
        Contrast(-1.0)
