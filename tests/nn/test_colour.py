import numpy as np
import pytest
import torch
import torch.nn.functional as F

from references.colour import annealed_mean, lab_of, soft_encoding
from selftaught.errors import UserError
from selftaught.nn.colour import ColourBins, Lab, Lightness, gamut, lab_to_rgb, rgb_to_lab
from selftaught.nn.encoders import build, map_side

MEAN, STD = (0.5, 0.4, 0.45), (0.25, 0.2, 0.3)


def some_colours(side=64, seed=0):
    """Random ones, and as many on the edges and corners of the cube: (1, 3, side, side)."""
    g = torch.Generator().manual_seed(seed)
    rgb = torch.rand(1, 3, side, side, generator=g, dtype=torch.float64)
    extreme = torch.rand(rgb.shape, generator=g) < 0.5
    return torch.where(extreme, rgb.round(), rgb)


def test_lab_equals_the_reference():
    rgb = some_colours(8)
    expected = np.apply_along_axis(lab_of, 1, rgb.numpy())
    np.testing.assert_allclose(rgb_to_lab(rgb), expected, rtol=1e-9, atol=1e-9)


def test_lab_equals_scikit_image():
    color = pytest.importorskip("skimage.color")
    rgb = some_colours()
    lab = rgb_to_lab(rgb)
    np.testing.assert_allclose(lab, color.rgb2lab(rgb.numpy(), channel_axis=1), atol=5e-3)
    np.testing.assert_allclose(
        lab_to_rgb(lab), color.lab2rgb(lab.numpy(), channel_axis=1), atol=1e-4
    )


@pytest.mark.parametrize(
    ("rgb", "lab"),
    [
        ((1.0, 1.0, 1.0), (100.0, 0.0, 0.0)),
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)),
        ((1.0, 0.0, 0.0), (53.24, 80.09, 67.20)),
        ((0.0, 1.0, 0.0), (87.73, -86.18, 83.18)),
        ((0.0, 0.0, 1.0), (32.30, 79.19, -107.86)),
    ],
)
def test_well_known_colours(rgb, lab):
    found = rgb_to_lab(torch.tensor(rgb)[None, :, None, None]).flatten()
    torch.testing.assert_close(found, torch.tensor(lab), atol=0.01, rtol=0)


def test_lab_and_back():
    rgb = some_colours()
    torch.testing.assert_close(lab_to_rgb(rgb_to_lab(rgb)), rgb, atol=1e-9, rtol=0)
    single = rgb.float()
    torch.testing.assert_close(lab_to_rgb(rgb_to_lab(single)), single, atol=1e-5, rtol=0)


def test_colours_that_srgb_has_not_are_clipped():
    rgb = lab_to_rgb(torch.tensor([[50.0, 200, 0], [0, 0, -90]])[..., None, None])
    assert torch.isfinite(rgb).all()
    assert rgb.min() >= 0
    assert rgb.max() <= 1


def test_normalised_images_and_back():
    lab = Lab(MEAN, STD)
    shape = (3, 1, 1)
    x = (some_colours(8).float() - torch.tensor(MEAN).view(shape)) / torch.tensor(STD).view(shape)
    torch.testing.assert_close(lab.image(lab(x)), x, atol=1e-4, rtol=0)


def test_lab_is_single_precision_under_autocast():
    rgb = some_colours(8).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = rgb_to_lab(rgb)
    assert torch.equal(found, rgb_to_lab(rgb))


# Bins


def test_bins_are_the_309_around_the_gamut():
    bins = ColourBins()
    assert len(bins) == 309
    assert (bins.centres % 10 == 0).all()
    assert bins.centres.unique(dim=0).shape == (309, 2)


@pytest.mark.parametrize("grid", [7, 10, 25])
def test_every_colour_lies_between_four_bins(grid):
    bins = ColourBins(grid=grid, sigma=grid / 2)
    square = (rgb_to_lab(some_colours(200))[0, 1:].flatten(1).T / grid).floor()
    has = {tuple(c) for c in (bins.centres / grid).round().int().tolist()}
    for a, b in square.int().unique(dim=0).tolist():
        assert {(a, b), (a + 1, b), (a, b + 1), (a + 1, b + 1)} <= has


def test_encoding_equals_the_reference():
    bins = ColourBins().double()
    ab = rgb_to_lab(some_colours(6, seed=1))[:, 1:]
    found, shares = bins.encode(ab)
    ours = torch.zeros(1, len(bins), 6, 6, dtype=torch.float64).scatter(1, found, shares)
    one = lambda v: soft_encoding(v, bins.centres.numpy(), 5, 5)  # noqa: E731
    np.testing.assert_allclose(ours, np.apply_along_axis(one, 1, ab.numpy()), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("grid", [5, 10, 25, 50])
def test_the_nearest_of_all_bins_are_found_and_the_very_nearest_comes_first(grid):
    bins = ColourBins(grid=grid, sigma=grid / 2).double()
    ab = rgb_to_lab(some_colours())[:, 1:]
    found, _ = bins.encode(ab)
    places = ab.permute(0, 2, 3, 1)
    mine = (bins.centres[found.permute(0, 2, 3, 1)] - places.unsqueeze(-2)).norm(dim=-1)
    all_of_them = torch.cdist(places, bins.centres).topk(5, largest=False).values
    torch.testing.assert_close(mine, all_of_them)


def test_decoding_a_soft_code_returns_nearly_the_colour():
    bins = ColourBins().double()
    ab = rgb_to_lab(some_colours(128))[:, 1:]
    found, shares = bins.encode(ab)
    scores = torch.full((1, len(bins), 128, 128), -torch.inf, dtype=torch.float64)
    decoded = bins.decode(scores.scatter(1, found, shares.log()), 1.0)
    half_diagonal = 10 / 2**0.5
    assert (decoded - ab).norm(dim=1).max() < half_diagonal / 5


@pytest.mark.parametrize("temperature", [1.0, 0.38, 0.01])
def test_decoding_equals_the_reference(temperature):
    bins = ColourBins().double()
    scores = torch.randn(1, len(bins), 2, 2, dtype=torch.float64)
    one = lambda s: annealed_mean(s, bins.centres.numpy(), temperature)  # noqa: E731
    expected = np.apply_along_axis(one, 1, scores.numpy())
    np.testing.assert_allclose(bins.decode(scores, temperature), expected, rtol=1e-9, atol=1e-9)


def test_bins_of_no_use_are_refused():
    for more in ({"grid": 0.0}, {"grid": 60.0}, {"sigma": 0.0}):
        with pytest.raises(UserError, match="--grid"):
            ColourBins(**more)


def test_gamut_is_computed_once():
    assert gamut(10) is gamut(10)


# The encoder


@pytest.mark.parametrize("name", ["resnet-nano", "vit-nano"])
def test_an_encoder_of_lightness_never_sees_colours(name):
    torch.manual_seed(0)
    encoder = Lightness(build(name, channels=1, size=16), MEAN, STD).eval()
    lab = torch.stack([torch.rand(2, 16, 16) * 20 + 40, *torch.zeros(2, 2, 16, 16)], dim=1)
    other = lab.clone()
    other[:, 1:] = F.interpolate(torch.rand(2, 2, 4, 4), 16) * 30 - 15  # in the gamut at this L
    gray, colourful = encoder.lab.image(lab), encoder.lab.image(other)
    assert (gray - colourful).abs().mean() > 0.05
    for of in (encoder, encoder.maps):
        torch.testing.assert_close(of(gray), of(colourful), atol=1e-4, rtol=1e-4)
    darker = encoder.lab.image(lab - torch.tensor([10.0, 0, 0])[:, None, None])
    assert (encoder(gray) - encoder(darker)).abs().max() > 1e-2


def test_an_encoder_of_lightness_is_as_wide_as_the_one_inside():
    encoder = Lightness(build("resnet-nano", channels=1, size=16), MEAN, STD).eval()
    x = torch.randn(2, 3, 16, 16)
    assert encoder(x).shape == (2, encoder.dim)
    assert encoder.maps(x).shape == (2, encoder.dim, 2, 2)
    assert map_side(encoder, 3, 16) == 2
    assert not encoder.training


def test_images_of_one_channel_are_refused():
    with pytest.raises(UserError, match="1 channel have no colours"):
        Lightness(build("resnet-nano", channels=1, size=16), (0.5,), (0.2,))
