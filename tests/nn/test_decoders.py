import pytest
import torch

from selftaught.errors import UserError
from selftaught.nn.decoders import Bounded, Decoder, sides
from selftaught.nn.encoders import build


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [*range(8, 34), 63, 96, 100, 256])
def test_vectors_become_images_of_any_side(size, channels):
    decoder = Decoder(5, channels, size, width=2, widest=4)
    assert decoder(torch.randn(2, 5)).shape == (2, channels, size, size)


@pytest.mark.parametrize("name", ["resnet-nano", "vit-nano", "resnet18"])
@pytest.mark.parametrize("size", [8, 15, 28, 32, 45])
def test_an_encoders_map_becomes_an_image_of_its_size(name, size):
    encoder = build(name, channels=1, size=size).eval()
    maps = encoder.maps(torch.randn(2, 1, size, size))
    assert maps.shape[:2] == (2, encoder.dim)
    decoder = Decoder(encoder.dim, 1, size, side=maps.shape[-1], vector=False)
    assert decoder(maps).shape == (2, 1, size, size)


@pytest.mark.parametrize(
    ("size", "side"), [(10, 8), (12, 8), (30, 5), (96, 8), (224, 16), (28, 7), (45, 12), (15, 8)]
)
def test_each_place_of_a_map_is_decoded_where_it_lies(size, side):
    decoder = Decoder(2, 1, size, side=side, width=1, vector=False).eval()
    with torch.no_grad():
        for weight in decoder.parameters():
            weight.fill_(0.1)
    columns = torch.eye(side).mul(1e3)[:, None, None].expand(side, 2, side, side)  # one in each
    moved = (decoder(columns) - decoder(torch.zeros(1, 2, side, side))).sum((1, 2))  # (side, size)
    centres = (moved * (torch.arange(size) + 0.5)).sum(1) / moved.sum(1)
    expected = (torch.arange(side) + 0.5) * size / side
    assert (centres - expected).abs().max() < size / side  # some reach beyond the border


def test_sides_meet_those_of_an_encoder_that_halves():
    assert sides(28, 4) == [4, 7, 14, 28]
    assert sides(28, 7) == [7, 14, 28]
    assert sides(30, 6) == [6, 8, 15, 30]
    assert sides(8, 8) == [8]
    assert sides(3, 4) == [3]


def test_every_place_of_the_image_depends_on_the_code():
    decoder = Decoder(3, 1, 28).eval()
    z = torch.randn(4, 3)
    moved = (decoder(z) != decoder(z + 1)).any(dim=0)
    assert moved.all()


def test_bounded_images_lie_between_black_and_white():
    bounded = Bounded((0.5, 0.25), (0.2, 0.4))
    x = bounded(torch.tensor([-1e4, 0.0, 1e4]).expand(1, 2, 1, 3))
    pixels = x * torch.tensor([0.2, 0.4])[:, None, None] + torch.tensor([0.5, 0.25])[:, None, None]
    torch.testing.assert_close(pixels, torch.tensor([0.0, 0.5, 1.0]).expand(1, 2, 1, 3))


def test_a_decoder_without_channels_is_refused():
    with pytest.raises(UserError, match="1 or more"):
        Decoder(0, 1, 28)
