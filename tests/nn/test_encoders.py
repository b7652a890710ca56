import pytest
import torch

from selftaught.errors import UserError
from selftaught.nn.encoders import build, map_side, patch_for, patch_of, stages
from selftaught.nn.filtered import Sobel


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "name", ["resnet-pico", "resnet-nano", "vit-nano", "resnet18", "vit_tiny_patch16_224"]
)
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


@pytest.mark.parametrize(("size", "patch"), [(8, 2), (28, 4), (32, 4), (64, 8), (224, 16)])
def test_patches_for_a_size(size, patch):
    assert patch_for(size) == patch


@pytest.mark.parametrize(
    ("name", "size", "patch"),
    [
        ("vit_huge_patch14_gap_224", 224, 14),
        ("vit_base_patch8_224", 224, 8),
        ("deit_base_patch16_224", 112, 16),
        ("vit_base_patch16_224", 96, None),  # 6 x 6 places are too few
        ("vit_base_patch14_dinov2", 128, None),  # does not tile it
        ("vit_small_r26_s32_224", 224, None),
        ("vit-nano", 28, None),
    ],
)
def test_the_patch_of_a_name(name, size, patch):
    assert patch_of(name, size) == patch


@pytest.mark.parametrize(
    ("size", "asked", "grid"), [(112, None, 8), (112, 16, 7), (28, None, 7), (96, None, 8)]
)
def test_a_patch_is_that_asked_for_or_that_of_the_name_where_it_fits(size, asked, grid):
    encoder = build("vit_small_patch14_reg4_dinov2", channels=1, size=size, patch=asked)
    assert encoder.grid == grid


def test_pico_is_nano_with_half_the_channels():
    nano, pico = (build(f"resnet-{size}", channels=1, size=28) for size in ("nano", "pico"))
    assert (nano.dim, pico.dim) == (256, 128)
    assert [len(x) for x in (nano.blocks, pico.blocks)] == [3, 3]
    for name, weight in pico.named_parameters():
        doubled = [2 * n for n in weight.shape[:2]]
        if name == "stem.weight":  # of the image's one channel
            doubled[1] = 1
        assert [*nano.get_parameter(name).shape[:2]] == doubled


def test_bad_names_and_patches_are_one_line():
    with pytest.raises(UserError, match="did you mean 'resnet18'"):
        build("resnet81", channels=3, size=32)
    with pytest.raises(UserError, match="1, 2, 4, 7, 14"):
        build("vit-nano", channels=1, size=28, patch=5)


@pytest.mark.parametrize("name", ["vgg16_bn", "mobilenetv3_small_100", "resnet18"])
def test_the_width_of_a_timm_network_is_that_of_its_features(name):
    with torch.device("meta"):
        encoder = build(name, channels=3, size=224).eval()
        assert encoder(torch.empty(2, 3, 224, 224)).shape == (2, encoder.dim)


@pytest.mark.parametrize("name", ["resnet-nano", "vit-nano", "resnet18"])
def test_the_stages_are_the_encoder_from_input_to_output(name):
    encoder = build(name, channels=1, size=28)
    parts = stages(encoder)
    inside = [p for part in parts for p in part.parameters()]
    assert len(inside) == len({id(p) for p in inside})
    learned = {id(p) for p in encoder.parameters() if p.requires_grad}
    assert learned == {id(p) for p in inside}
    assert len(parts) >= 5


def test_the_stages_of_an_encoder_around_another_are_the_others():
    inner = build("resnet-nano", channels=2, size=28)
    assert len(stages(Sobel(inner))) == len(stages(inner))


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


@pytest.mark.parametrize("name", ["vit_little_patch16_reg4_gap_256", "vit_base_patch16_siglip_224"])
def test_every_vision_transformer_normalises_its_tokens(name):
    encoder = build(name, channels=3, size=32, patch=16)
    tokens = encoder.tokens(torch.randn(2, 3, 32, 32))
    assert (tokens.mean(-1).abs() < 1e-4).all()
    encoder(torch.randn(2, 3, 32, 32)).sum().backward()
    idle = {n for n, p in encoder.named_parameters() if p.requires_grad and p.grad is None}
    assert not idle


@pytest.mark.parametrize(
    ("name", "size"), [("convnext_atto", 16), ("efficientformer_l1", 64), ("vgg11", 16)]
)
def test_a_network_that_cannot_see_such_images_is_one_line(name, size):
    with pytest.raises(UserError, match=f"{name} cannot see images of 1 x {size} x {size} ") as e:
        build(name, channels=1, size=size)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("name", ["levit_128s", "test_vit", "swin_tiny_patch4_window7_224"])
def test_a_network_is_told_the_size_where_it_asks(name):
    encoder = build(name, channels=1, size=64)
    assert encoder.training
    assert encoder(torch.zeros(2, 1, 64, 64)).shape == (2, encoder.dim)
