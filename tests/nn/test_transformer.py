import numpy as np
import pytest
import torch

from references.masked import patchify, sincos_position
from selftaught.nn.encoders import build
from selftaught.nn.transformer import (
    FUSED_FROM,
    begin_small,
    fuse_attention,
    initialize,
    sine_position,
    transformer,
)


def position_only(encoder):
    """The encoder without blocks and norm: its tokens are the embedded patches with positions."""
    encoder.net.blocks, encoder.net.norm = torch.nn.Sequential(), torch.nn.Identity()
    return encoder


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


CUT = 0.5396  # deviation of a standard normal number from -1 to 1


@pytest.mark.parametrize("name", ["vit-nano", "vit_tiny_patch16_224"])
def test_small_weights_lie_within_beits_range_and_shrink_with_depth(name):
    torch.manual_seed(0)
    encoder, head = build(name, channels=3, size=16, patch=4), torch.nn.Linear(200, 300)
    before = encoder.net.patch_embed.proj.weight.clone()
    begin_small(encoder, head)
    for number, block in enumerate(encoder.net.blocks, start=1):
        for layer in (block.attn.qkv, block.mlp.fc1, block.attn.proj, block.mlp.fc2):
            deep = layer in (block.attn.proj, block.mlp.fc2)
            bound = 0.02 / (2 * number) ** 0.5 if deep else 0.02
            assert 0.98 * bound < layer.weight.abs().max() <= bound * (1 + 1e-6)
            assert layer.weight.std().item() == pytest.approx(CUT * bound, rel=0.02)
            assert not layer.bias.any()
    assert head.weight.abs().max() <= 0.02
    assert not head.bias.any()
    assert torch.equal(encoder.net.patch_embed.proj.weight, before)
    token = encoder.net.cls_token
    assert token is None or token.std().item() == pytest.approx(CUT * 0.02, rel=0.2)


def test_weights_that_are_not_cut_off_have_the_whole_deviation():
    torch.manual_seed(0)
    part = torch.nn.Sequential(torch.nn.Linear(200, 300), torch.nn.Linear(300, 200, bias=False))
    initialize(part)
    for layer in part:
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.02)
    assert not part[0].bias.any()


def test_attention_follows_the_number_of_tokens():
    assert not transformer(16, 1, 2, FUSED_FROM - 1)[0].attn.fused_attn
    assert transformer(16, 1, 2, FUSED_FROM)[0].attn.fused_attn
    short = transformer(16, 1, 2, 9)
    fuse_attention(short)
    assert short[0].attn.fused_attn


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
