import numpy as np
import pytest
import torch

from references.masked import patchify, sincos_position
from selftaught.errors import UserError
from selftaught.nn.encoders import (
    FUSED_FROM,
    Conv3x3,
    build,
    fuse_attention,
    patch_for,
    sine_position,
    transformer,
)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", ["resnet-nano", "vit-nano", "resnet18", "vit_tiny_patch16_224"])
def test_one_vector_an_image(name, channels):
    encoder = build(name, channels=channels, size=16).eval()
    with torch.no_grad():
        assert encoder(torch.rand(3, channels, 16, 16)).shape == (3, encoder.dim)


@pytest.mark.parametrize(("size", "stride"), [(32, 1), (64, 1), (65, 2), (96, 2)])
def test_a_resnets_stem_follows_the_size_of_the_images(size, stride):
    net = build("resnet18", channels=3, size=size).net
    assert net.conv1.stride == (stride, stride)
    assert isinstance(net.maxpool, torch.nn.Identity) == (stride == 1)
    assert net.conv1.kernel_size == ((3, 3) if stride == 1 else (7, 7))
    assert net.conv1.padding == ((1, 1) if stride == 1 else (3, 3))


def test_positions_equal_the_reference():
    np.testing.assert_allclose(sine_position(24, 5).numpy(), sincos_position(24, 5), atol=1e-6)


def test_patches_equal_the_reference():
    encoder = build("vit-nano", channels=3, size=16, patch=4)
    x = torch.rand(2, 3, 16, 16)
    np.testing.assert_array_equal(encoder.patches(x).numpy(), patchify(x.numpy(), 4))


@pytest.mark.parametrize("name", ["vit-nano", "vit_tiny_patch16_224"])
def test_tokens_that_are_left_out_are_never_looked_at(name):
    encoder = build(name, channels=1, size=16, patch=4).eval()
    x = torch.rand(2, 1, 16, 16)
    keep = torch.tensor([[3, 0, 9], [5, 15, 7]])
    with torch.no_grad():
        before = encoder.tokens(x, keep)
        patches = x.unfold(2, 4, 4).unfold(3, 4, 4)  # (2, 1, 4, 4, 4, 4), a view
        for i in range(2):
            for p in set(range(16)) - set(keep[i].tolist()):
                patches[i, 0, p // 4, p % 4] = torch.nan
        after = encoder.tokens(x, keep)
    assert before.shape == (2, 3, encoder.dim)
    assert torch.equal(before, after)


def test_keeping_all_tokens_is_keeping_none_out():
    encoder = build("vit-nano", channels=1, size=16, patch=4).eval()
    x, every = torch.rand(2, 1, 16, 16), torch.arange(16).expand(2, -1)
    with torch.no_grad():
        torch.testing.assert_close(encoder.tokens(x), encoder.tokens(x, every))


def test_tokens_equal_timms_own_forward():
    encoder = build("vit_tiny_patch16_224", channels=3, size=32, patch=8).eval()
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected = encoder.net.forward_features(x)[:, 1:]
        torch.testing.assert_close(encoder.tokens(x), expected)


def test_attention_follows_the_number_of_tokens():
    assert not transformer(16, 1, 2, FUSED_FROM - 1)[0].attn.fused_attn
    assert transformer(16, 1, 2, FUSED_FROM)[0].attn.fused_attn
    short = transformer(16, 1, 2, 9)
    fuse_attention(short)
    assert short[0].attn.fused_attn


@pytest.mark.parametrize(("size", "patch"), [(8, 2), (28, 4), (32, 4), (64, 8), (224, 16)])
def test_patches_for_a_size(size, patch):
    assert patch_for(size) == patch


def test_bad_names_and_patches_are_one_line():
    with pytest.raises(UserError, match="did you mean 'resnet18'"):
        build("resnet81", channels=3, size=32)
    with pytest.raises(UserError, match="1, 2, 4, 7, 14"):
        build("vit-nano", channels=1, size=28, patch=5)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [1, 3, 4, 5])
def test_a_convolution_over_a_tiny_map_equals_torchs(side, stride):
    torch.manual_seed(0)
    ours = Conv3x3(4, 6, stride).double()
    x = torch.randn(2, 4, side, side, dtype=torch.float64, requires_grad=True)
    y = ours(x)
    expected = torch.nn.functional.conv2d(x, ours.weight, stride=stride, padding=1)
    torch.testing.assert_close(y, expected)
    back = torch.randn_like(y)
    one = torch.autograd.grad(y, (x, ours.weight), back)
    two = torch.autograd.grad(expected, (x, ours.weight), back)
    torch.testing.assert_close(one, two)
