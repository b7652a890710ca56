import numpy as np
import pytest
import torch

from references.sequence import quantised
from selftaught.errors import UserError
from selftaught.nn.pixels import Palette, PixelGPT


def gpt(**more):
    torch.manual_seed(0)
    shape = {"channels": 3, "size": 8, "side": 4, "palette": 5}
    return PixelGPT(**shape | {"dim": 8, "heads": 2, "depth": 2, "total": 3} | more).double()


def images(n=3, size=8, channels=3):
    g = torch.Generator().manual_seed(1)
    return torch.randn(n, channels, size, size, generator=g).double()


@pytest.mark.parametrize("channels", [1, 3])
def test_pixels_have_the_nearest_colour(channels):
    torch.manual_seed(0)
    palette = Palette(6, channels).double()
    pixels = torch.randn(2, 50, channels).double()
    expected = quantised(pixels.flatten(0, 1).numpy(), palette.colours.numpy())
    np.testing.assert_array_equal(palette.ids(pixels).flatten().numpy(), expected)


def test_colours_are_compared_in_single_precision_under_autocast():
    palette = Palette(64, 3)
    pixels = torch.randn(2, 200, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = palette.ids(pixels)
    assert torch.equal(inside, palette.ids(pixels))


def test_the_colours_that_are_there_are_found_the_darkest_first():
    torch.manual_seed(0)
    true = torch.tensor([[-1.0, -1, -1], [0, 0, 0.5], [1, 1, 0], [3, 3, 3]])
    often = torch.multinomial(torch.tensor([0.9, 0.05, 0.03, 0.02]), 5000, replacement=True)
    palette = Palette(4, 3)
    palette.find(true[often])
    torch.testing.assert_close(palette.colours, true)


def test_a_palette_of_k_means_draws_pixels_better_than_a_random_one():
    torch.manual_seed(0)
    palette, pixels = Palette(8, 1), torch.randn(1, 4000, 1)

    def error():
        return (palette.colours[palette.ids(pixels)] - pixels).square().mean()

    before = error()
    palette.find(pixels[0])
    assert error() < min(before, 0.05)  # the best eight levels of a Gaussian: 0.0345 (Max 1960)


def test_more_colours_than_the_pixels_have_are_refused():
    palette = Palette(4, 1)
    with pytest.raises(UserError, match=r"--palette with at most 3$") as error:
        palette.find(torch.tensor([0.0, 1, 2]).repeat(10)[:, None])
    assert "\n" not in str(error.value)


def test_the_small_copy_is_an_average_and_comes_back_as_squares_of_colour():
    encoder = gpt()
    x = images()
    assert torch.allclose(encoder.pixels(x)[0, 1], x[0, :, :2, 2:4].mean(dim=(1, 2)))
    ids = encoder.ids(x)
    assert ids.shape == (3, 16)
    drawn = encoder.images(ids)
    assert drawn.shape == x.shape
    assert torch.equal(drawn[2, :, 4, 7], encoder.palette.colours[ids[2, 11]])
    assert torch.equal(encoder.ids(drawn), ids)


def test_the_first_place_sees_the_start_and_each_other_the_pixel_before_it():
    encoder, before = gpt(), torch.tensor([[3, 0, 4]])
    found = encoder.embedded(before)[0] - encoder.position[:4]
    torch.testing.assert_close(found[0], encoder.start)
    torch.testing.assert_close(found[1:], encoder.embedding(before[0]))


def test_features_are_the_mean_of_the_map_and_each_place_of_it_has_unit_variance():
    encoder, x = gpt(), images()
    maps = encoder.maps(x)
    assert maps.shape == (3, 8, 4, 4)
    torch.testing.assert_close(encoder(x), maps.mean(dim=(2, 3)))
    torch.testing.assert_close(
        maps.var(dim=1, unbiased=False).mean(), torch.tensor(1.0).double(), rtol=0.05, atol=0
    )


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"side": 1}, "--side"),
        ({"side": 9}, "--side"),
        ({"depth": 0}, "--layer"),
        ({"depth": 4}, "--layer"),
        ({"heads": 3}, "--heads"),
        ({"palette": 1}, "--palette"),
    ],
)
def test_settings_out_of_range_are_refused(wrong, named):
    with pytest.raises(UserError, match=named) as error:
        gpt(**wrong)
    assert "\n" not in str(error.value)
