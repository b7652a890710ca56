import pytest
import torch

from selftaught.errors import UserError
from selftaught.nn.encoders import build
from selftaught.nn.residual import Conv3x3


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("sides", [(1, 1), (2, 3), (3, 3), (4, 4), (4, 2), (5, 5), (8, 7)])
def test_a_convolution_over_a_tiny_map_equals_torchs(sides, stride, monkeypatch):
    torch.manual_seed(0)
    monkeypatch.setattr(Conv3x3, "WORTH", 1)
    ours = Conv3x3(4, 6, stride).double()
    x = torch.randn(2, 4, *sides, dtype=torch.float64, requires_grad=True)
    y = ours(x)
    assert y.is_contiguous(memory_format=torch.channels_last) == (max(y.shape[2:]) <= Conv3x3.TINY)
    expected = torch.nn.functional.conv2d(x, ours.weight, stride=stride, padding=1)
    torch.testing.assert_close(y, expected)
    back = torch.randn_like(y)
    one = torch.autograd.grad(y, (x, ours.weight), back)
    two = torch.autograd.grad(expected, (x, ours.weight), back)
    torch.testing.assert_close(one, two)


def test_a_convolution_to_a_single_pixel_has_its_gradient_in_bfloat16():
    """PyTorch's own leaves what was in memory in the weights that saw only padding."""
    conv = Conv3x3(128, 256, 2)
    unseen = torch.ones(3, 3, dtype=torch.bool)
    unseen[1, 1] = False
    for _ in range(5):
        x = torch.randn(800, 128, 1, 1)
        for size in (10**3, 10**5, 10**6):
            torch.full((size,), torch.inf, dtype=torch.bfloat16)  # what may be in memory
        conv.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            conv(x).float().sum().backward()
        assert not conv.weight.grad[:, :, unseen].any()
        seen = x.bfloat16().float().sum((0, 2, 3)).expand(256, 128)
        torch.testing.assert_close(conv.weight.grad[:, :, 1, 1], seen, rtol=0.02, atol=0.5)


@pytest.mark.parametrize(("stride", "sides"), [(1, 28), (2, 14), (4, 7), (8, 4), (None, 4)])
def test_a_smaller_stride_halves_less_often_and_keeps_the_width(stride, sides):
    encoder = build("resnet-nano", channels=1, size=28, stride=stride)
    assert encoder.dim == 256
    assert encoder.maps(torch.rand(2, 1, 28, 28)).shape == (2, 256, sides, sides)
    assert [tuple(block.conv1.stride) for block in encoder.blocks] == [
        (2, 2) if 2**i < (stride or 8) else (1, 1) for i in range(3)
    ]


@pytest.mark.parametrize("stride", [0, 3, 16, -2])
def test_a_stride_that_blocks_cannot_make_is_one_line(stride):
    with pytest.raises(UserError, match="--stride with one of 1, 2, 4, 8"):
        build("resnet-nano", channels=1, size=28, stride=stride)
