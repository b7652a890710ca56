import numpy as np
import pytest
import torch
from scipy import ndimage

from selftaught.nn.encoders import build, map_side
from selftaught.nn.filtered import Sobel


def sobel(name="resnet-nano"):
    torch.manual_seed(0)
    return Sobel(build(name, channels=2, size=16)).eval()


def test_edges_equal_scipys():
    x = torch.randn(2, 3, 16, 16)
    found = sobel().seen(x).numpy()
    gray = x.mean(1).numpy()
    for image, edges in zip(gray, found, strict=True):
        for axis, ours in zip((1, 0), edges, strict=True):
            np.testing.assert_allclose(
                ours, -ndimage.sobel(image, axis, mode="constant"), rtol=1e-5, atol=1e-5
            )


@pytest.mark.parametrize("name", ["resnet-nano", "vit-nano"])
def test_an_encoder_of_edges_sees_no_colours(name):
    encoder = sobel(name)
    gray = torch.rand(2, 1, 16, 16)
    colour = torch.rand(2, 1, 16, 16)
    plain, colourful = gray.repeat(1, 3, 1, 1), torch.cat([gray + colour, gray, gray - colour], 1)
    for of in (encoder, encoder.maps):
        torch.testing.assert_close(of(plain), of(colourful), atol=1e-4, rtol=1e-4)
    assert (encoder(plain) - encoder(plain.flip(-1))).abs().max() > 1e-3


@pytest.mark.parametrize("channels", [1, 3])
def test_an_encoder_of_edges_is_as_wide_as_the_one_inside_and_nothing_more_is_saved(channels):
    encoder = sobel()
    x = torch.randn(2, channels, 16, 16)
    assert encoder(x).shape == (2, encoder.dim)
    assert encoder.maps(x).shape == (2, encoder.dim, 2, 2)
    assert [level.shape for level in encoder.levels(x)][-1] == (2, encoder.dim, 2, 2)
    assert map_side(encoder, channels, 16) == 2
    assert "grey edges" in encoder.feature
    assert encoder.state_dict().keys() == {f"encoder.{n}" for n in encoder.encoder.state_dict()}
