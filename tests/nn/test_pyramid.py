import pytest
import torch

from selftaught.errors import UserError
from selftaught.nn.encoders import build
from selftaught.nn.pyramid import Coarser, Pyramid

NETS = {
    "resnet-nano": (64, [4, 8]),
    "resnet18": (64, [4, 8]),
    "mobilenetv3_small_050": (64, [4, 8, 16, 32]),
    "vit-nano": (32, [4, 8, 16]),
}


def pyramid(name, **more):
    size = NETS[name][0]
    encoder = build(name, channels=1, size=32)
    return Pyramid(encoder, channels=1, size=size, width=8, **more).eval(), size


@pytest.mark.parametrize("name", NETS)
@torch.no_grad()
def test_each_level_has_its_stride(name):
    net, size = pyramid(name)
    assert net.strides == NETS[name][1]
    found = net(torch.rand(2, 1, size, size))
    assert [tuple(y.shape) for y in found.values()] == [
        (2, 8, size // stride, size // stride) for stride in net.strides
    ]
    assert list(found) == [str(k) for k in range(len(net.strides))]


def test_a_finer_level_is_taken_where_it_is_asked_for():
    assert pyramid("resnet-nano", finest=2)[0].strides == [2, 4, 8]


@torch.no_grad()
def test_images_may_be_larger_than_the_encoder_was_built_for():
    net, _ = pyramid("vit-nano")
    found = net(torch.rand(1, 1, 48, 48))
    assert found["0"].shape[2:] == (48 // net.strides[0],) * 2


@torch.no_grad()
def test_the_last_map_is_the_encoders_own():
    for name in ("resnet-nano", "vit-nano", "resnet18"):
        encoder = build(name, channels=1, size=32).eval()
        x = torch.rand(2, 1, 32, 32)
        torch.testing.assert_close(encoder.levels(x)[-1], encoder.maps(x))


def test_the_encoder_learns_through_every_level():
    net, size = pyramid("resnet-nano")
    for name in net(torch.rand(1, 1, size, size)):
        net.zero_grad()
        net(torch.rand(2, 1, size, size))[name].square().sum().backward()
        assert net.encoder.stem.weight.grad.abs().sum() > 0


@torch.no_grad()
def test_a_detector_has_one_coarser_level():
    net, size = pyramid("resnet-nano")
    found = Coarser(net)(torch.rand(1, 1, size, size))
    assert list(found) == ["0", "1", "pool"]
    assert found["pool"].shape[-1] == size // 16


def test_an_encoder_without_maps_is_refused():
    with pytest.raises(UserError, match="no features of places"):
        Pyramid(build("amdim-nano", channels=1, size=32), channels=1, size=32)
    swin = build("swin_s3_tiny_224", channels=1, size=224)
    with pytest.raises(UserError, match="no backbone for images of 64 pixels"):
        Pyramid(swin, channels=1, size=64)
