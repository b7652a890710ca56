import pytest
import torch
import torch.nn.functional as F

from selftaught.errors import UserError
from selftaught.nn.encoders import build
from selftaught.nn.scales import AmdimNano, PlaceEmbedding, ResidualConv


def image(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def awake(encoder):
    """The encoder with every second convolution away from zero, in double precision."""
    for module in encoder.modules():
        if isinstance(module, ResidualConv):
            torch.nn.init.normal_(module.conv2.weight)
    return encoder.double().eval()


def small(size, **more):
    torch.manual_seed(0)
    return awake(AmdimNano(channels=1, size=size, **{"width": 8, "dim": 64, "depth": 2, **more}))


@pytest.mark.parametrize("size", [8, 15, 16, 17, 28, 32, 33, 64, 65, 128, 130])
def test_every_size_of_image_has_the_three_scales(size):
    encoder = small(size)
    with torch.no_grad():
        h1, h5, h7 = encoder.scales(image(2, 1, size, size).double())
    assert h1.shape == (2, encoder.dim)
    assert h5.shape == (2, encoder.local, 5, 5)
    assert h7.shape == (2, encoder.local, 7, 7)
    assert torch.equal(encoder(image(2, 1, size, size).double()), h1)


def pixels_seen(encoder, size, scale, place):
    """The first and the last pixel, along one axis, that a place depends on, and where it stops."""
    x = image(1, 1, size, size).double().requires_grad_()
    encoder.scales(x)[scale][0, :, place, place].abs().sum().backward()
    rows = (x.grad[0, 0].abs().sum(1) > 0).nonzero().flatten()
    return rows[0].item(), rows[-1].item()


@pytest.mark.parametrize("place", [0, 3, 6])
def test_a_7x7_feature_has_seen_its_own_window_only(place):
    assert pixels_seen(small(32), 32, 2, place) == (4 * place, 4 * place + 7)


@pytest.mark.parametrize("place", [0, 2, 4])
def test_a_5x5_feature_has_seen_its_own_window_only(place):
    assert pixels_seen(small(32), 32, 1, place) == (4 * place, 4 * place + 15)


def test_the_1x1_feature_has_seen_the_whole_image():
    encoder = small(32)
    x = image(1, 1, 32, 32).double().requires_grad_()
    encoder(x).abs().sum().backward()
    assert (x.grad != 0).all()


@pytest.mark.parametrize(
    ("size", "width", "local"), [(16, 4, 8), (28, 4, 16), (32, 4, 16), (64, 4, 32), (128, 4, 32)]
)
def test_widths_are_those_of_the_authors(size, width, local):
    assert AmdimNano(channels=3, size=size, width=width, dim=64).local == local


def test_parameters_are_as_many_as_in_the_authors_code():
    # Encoder(ndf=8, n_rkhs=64, n_depth=3) of Philip-Bachman/amdim-public without embedding blocks:
    # w^2 d_in d_out + d_out^2 a block of w x w, its 1x1 blocks 2 d_out^2 each
    first = 3 * 9 * 8 + 8
    blocks = {32: [(1, 8, 8, 1), (4, 8, 16, 3), (2, 16, 32, 3), (3, 32, 32, 3), (3, 32, 32, 3)]}
    blocks[64] = [(4, 8, 16, 3), (4, 16, 32, 3), (2, 32, 64, 3), (3, 64, 64, 3), (3, 64, 64, 3)]
    for size, chain in blocks.items():
        chain = [*chain, (3, chain[-1][2], 64, 1)]
        expected = first + 2 * 64
        for width, d_in, d_out, depth in chain:
            expected += width**2 * d_in * d_out + d_out**2 + (depth - 1) * 2 * d_out**2
        encoder = AmdimNano(channels=3, size=size, width=8, dim=64, depth=3)
        assert sum(p.numel() for p in encoder.parameters()) == expected


@pytest.mark.parametrize(("width", "stride"), [(1, 1), (2, 2), (4, 2), (3, 1)])
def test_a_block_begins_as_the_average_of_what_it_sees(width, stride):
    conv = ResidualConv(3, 5, width, stride)
    x = image(2, 3, 10, 10)
    y = conv(x)
    torch.testing.assert_close(y[:, :3], F.avg_pool2d(x, width, stride))
    assert not y[:, 3:].any()


def test_a_block_adds_its_convolutions_without_padding():
    conv = awake(ResidualConv(3, 3, 3, 1))
    x = image(2, 3, 6, 6).double()
    inner = F.conv2d(F.conv2d(x, conv.conv1.weight).relu(), conv.conv2.weight)
    torch.testing.assert_close(conv(x), inner + F.avg_pool2d(x, 3, 1))


def test_an_embedding_begins_near_the_normalised_identity():
    embedding = PlaceEmbedding(6, 8).eval()
    x = image(4, 6, 7, 7)
    with torch.no_grad():
        embedding.skip.bias.zero_()
        y = embedding(x)
    assert y.shape == (4, 8, 7, 7)
    torch.testing.assert_close(y[:, :6], x, atol=0.06, rtol=0)
    assert y[:, 6:].abs().max() < 0.06


def test_it_can_be_built_by_name():
    encoder = build("amdim-nano", channels=3, size=28)
    assert isinstance(encoder, AmdimNano)
    assert not encoder.any_size


@pytest.mark.parametrize("bad", [{"width": 0}, {"depth": 0}, {"size": 7}, {"dim": 127}])
def test_bad_shapes_are_refused(bad):
    with pytest.raises(UserError, match=r"--size|--dim"):
        AmdimNano(channels=1, **{"size": 32, "width": 32, "dim": 256, **bad})
