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
    map_side,
    patch_for,
    sine_position,
    stages,
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


def test_images_are_made_of_their_patches_again():
    encoder = build("vit-nano", channels=3, size=12, patch=4)
    x = torch.rand(2, 3, 12, 12)
    assert torch.equal(encoder.images(encoder.patches(x)), x)


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


@pytest.mark.parametrize(
    "name",
    ["vit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "vit_small_patch14_reg4_dinov2"],
)
def test_tokens_equal_timms_own_forward(name):
    encoder = build(name, channels=3, size=32, patch=8).eval()
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        expected = encoder.net.forward_features(x)[:, -16:]
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


def position_only(encoder):
    """The encoder without blocks and norm: its tokens are the embedded patches with positions."""
    encoder.net.blocks, encoder.net.norm = torch.nn.Sequential(), torch.nn.Identity()
    return encoder


@pytest.mark.parametrize("name", ["vit-nano", "vit_tiny_patch16_224"])
def test_a_hidden_patch_cannot_be_read(name):
    encoder = build(name, channels=1, size=16, patch=4).eval()
    x, blank = torch.rand(2, 1, 16, 16), torch.randn(encoder.dim)
    hidden = torch.rand(2, 16).argsort(dim=1) < torch.tensor([[9], [3]])
    other = torch.where(
        hidden.view(2, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3), 7, x
    )
    with torch.no_grad():
        one, two = (encoder.tokens(i, hidden=hidden, blank=blank) for i in (x, other))
        layers = [encoder.layers(i, hidden=hidden, blank=blank) for i in (x, other)]
        assert not torch.equal(encoder.tokens(x), encoder.tokens(other))
        assert not torch.equal(one, encoder.tokens(x, hidden=hidden, blank=blank + 1))
    assert torch.equal(one, two)
    for first, second in zip(*layers, strict=True):
        assert torch.equal(first, second)


def test_a_patch_that_is_not_hidden_is_read():
    encoder = build("vit-nano", channels=1, size=16, patch=4).eval()
    x, blank = torch.rand(1, 1, 16, 16), torch.zeros(encoder.dim)
    hidden = torch.arange(16)[None] >= 5
    other = x.clone()
    other[0, 0, 4, 2] += 1  # patch 4
    with torch.no_grad():
        one, two = (encoder.tokens(i, hidden=hidden, blank=blank) for i in (x, other))
    assert ((one - two).abs().amax(dim=2) > 1e-4).all()  # and every token has heard of it


def test_a_hidden_patch_is_a_learned_token_in_its_place():
    encoder = position_only(build("vit-nano", channels=1, size=16, patch=4))
    x, blank = torch.rand(2, 1, 16, 16), torch.randn(encoder.dim, requires_grad=True)
    hidden = torch.rand(2, 16) < 0.5
    tokens = encoder.tokens(x, hidden=hidden, blank=blank)
    position = sine_position(encoder.dim, 4).expand(2, -1, -1)
    torch.testing.assert_close(tokens[hidden], (blank + position)[hidden])
    torch.testing.assert_close(tokens[~hidden], encoder.tokens(x)[~hidden])
    tokens.sum().backward()
    torch.testing.assert_close(blank.grad, hidden.sum().expand(encoder.dim).float())


@pytest.mark.parametrize("name", ["vit-nano", "vit_tiny_patch16_224"])
def test_layers_equal_timms_own(name):
    encoder = build(name, channels=3, size=32, patch=8).eval()
    x = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        _, expected = encoder.net.forward_intermediates(x, output_fmt="NLC")
        found = encoder.layers(x)
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(encoder.net.norm(found[-1]), encoder.tokens(x))
    assert len(found) == len(encoder.net.blocks)


def test_positions_of_another_grid_are_stretched_over_the_same_square():
    assert torch.equal(sine_position(24, 5, 5), sine_position(24, 5))
    dim, grid, extent = 8, 3, 6
    places = [0.5, 2.5, 4.5]  # the middles of thirds of 0 to 5, in units of the finer grid
    rows = []
    for row in places:
        for column in places:
            angles = [(c, c / 100) for c in (column, row)]  # wavelengths 2 pi and 200 pi
            rows.append([f(a) for pair in angles for f in (np.sin, np.cos) for a in pair])
    np.testing.assert_allclose(sine_position(dim, grid, extent).numpy(), rows, atol=1e-6)
    middle = sine_position(24, 1, 5)[0]
    torch.testing.assert_close(middle, sine_position(24, 5)[12])  # the centre of 5 x 5


@pytest.mark.parametrize("name", ["vit-nano", "vit_tiny_patch16_224"])
@pytest.mark.parametrize("size", [8, 16, 24])
def test_images_of_another_size_have_positions_of_their_own(name, size):
    encoder = build(name, channels=1, size=16, patch=4).eval()
    x, grid = torch.rand(2, 1, size, size), size // 4
    with torch.no_grad():
        assert encoder(x).shape == (2, encoder.dim)
        assert len(encoder.layers(x)) == len(encoder.net.blocks)
        assert encoder.patches(x).shape == (2, grid**2, 16)
        keep = torch.arange(grid**2).expand(2, -1)
        torch.testing.assert_close(encoder.tokens(x), encoder.tokens(x, keep))
        bare = position_only(encoder)
        position = bare.tokens(x) - bare.net.patch_embed(x)
    expected = sine_position(encoder.dim, grid, 4).expand(2, -1, -1)
    torch.testing.assert_close(position, expected, atol=1e-5, rtol=0)
    if size == 16:
        torch.testing.assert_close(expected[0], sine_position(encoder.dim, 4))


def test_images_of_another_size_have_patches_as_in_the_reference():
    encoder = build("vit-nano", channels=3, size=16, patch=4)
    x = torch.rand(2, 3, 24, 24)
    np.testing.assert_array_equal(encoder.patches(x).numpy(), patchify(x.numpy(), 4))


@pytest.mark.parametrize("name", ["vgg16_bn", "mobilenetv3_small_100", "resnet18"])
def test_the_width_of_a_timm_network_is_that_of_its_features(name):
    with torch.device("meta"):
        encoder = build(name, channels=3, size=224).eval()
        assert encoder(torch.empty(2, 3, 224, 224)).shape == (2, encoder.dim)


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


@pytest.mark.parametrize("name", ["resnet-nano", "vit-nano", "resnet18"])
def test_the_stages_are_the_encoder_from_input_to_output(name):
    encoder = build(name, channels=1, size=28)
    parts = stages(encoder)
    inside = [p for part in parts for p in part.parameters()]
    assert len(inside) == len({id(p) for p in inside})
    learned = {id(p) for p in encoder.parameters() if p.requires_grad}
    assert learned == {id(p) for p in inside}
    assert len(parts) >= 5


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


@pytest.mark.parametrize(
    ("name", "size", "side"),
    [("resnet-nano", 28, 4), ("resnet-nano", 30, 4), ("vit-nano", 28, 7), ("resnet18", 32, 4)],
)
def test_the_side_of_a_map_is_measured_without_a_trace(name, size, side):
    encoder = build(name, channels=3, size=size).train()
    before = {n: x.clone() for n, x in encoder.state_dict().items()}
    assert map_side(encoder, 3, size) == side
    assert encoder.training
    assert all(torch.equal(x, before[n]) for n, x in encoder.state_dict().items())


def test_an_encoder_without_maps_is_one_line():
    with pytest.raises(UserError, match="no features of places"):
        map_side(build("vgg16_bn", channels=3, size=32), 3, 32)
