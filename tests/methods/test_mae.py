import math

import numpy as np
import pytest
import torch
from torch import nn

from references import masked as reference
from selftaught.errors import UserError
from selftaught.method import ViewBatch
from selftaught.methods.mae import MAE
from selftaught.nn import encoders

CLASS = "vit_tiny_patch16_224"  # has a class token
SMALL = {"dim": 24, "depth": 2, "heads": 3}


def mae(name="vit-nano", seed=0, **more):
    """In float64, with biases that are not zero; 5 x 5 patches in colour."""
    torch.manual_seed(seed)
    encoder = encoders.build(name, channels=3, size=20, patch=4)
    method = MAE(encoder, **SMALL | more).double()
    with torch.no_grad():
        for p in method.parameters():
            if p.requires_grad and p.ndim == 1:
                p += 0.1 * torch.randn_like(p)
    return method


def images(n=3):
    return torch.randn(n, 3, 20, 20, generator=torch.Generator().manual_seed(1)).double()


def expected(method, x, seed=5):
    """The reference's answer, by the weights of the method and its draw at this seed."""

    def linear(layer):
        return layer.weight.numpy(), layer.bias.numpy()

    def run(*parts):
        return lambda tokens: nn.Sequential(*parts)(torch.from_numpy(tokens)[None])[0].numpy()

    net = method.encoder.net
    torch.manual_seed(seed)
    noise = torch.rand(len(x), method.encoder.length).numpy()
    parts = {
        "embed": linear(net.patch_embed.proj),
        "encode": run(*net.blocks, net.norm),
        "widen": linear(method.widen),
        "mask": method.mask[0, 0].numpy(),
        "decode": run(*method.decoder),
        "pixels": linear(method.pixels),
    }
    token = None if net.cls_token is None else net.cls_token[0, 0].numpy()
    return reference.mae(
        x.numpy(),
        noise,
        method.ratio,
        parts,
        normalize=method.normalize_target,
        class_token=token,
    )


def term(method, x, seed=5):
    torch.manual_seed(seed)
    return method(ViewBatch((x,), torch.arange(len(x))))["reconstruction"]


@torch.no_grad()
@pytest.mark.parametrize("name", ["vit-nano", CLASS])
@pytest.mark.parametrize(("ratio", "normalize"), [(0.75, True), (0.5, False)])
def test_the_term_is_the_papers(name, ratio, normalize):
    method, x = mae(name, ratio=ratio, normalize_target=normalize), images()
    loss, _ = expected(method, x)
    assert term(method, x).item() == pytest.approx(loss, rel=1e-6)  # positions are float32


@torch.no_grad()
def test_what_is_painted_lies_where_the_papers_prediction_lies():
    method, x = mae(normalize_target=False), images()
    _, predicted = expected(method, x)
    torch.manual_seed(5)
    seen, painted = (method.encoder.patches(y) for y in method.pictures(x).values())
    patches = method.encoder.patches(x)
    kept = seen.eq(patches).all(dim=2)
    assert kept.sum(dim=1).tolist() == [6] * len(x)  # of 25
    assert torch.equal(painted[kept], patches[kept])
    np.testing.assert_allclose(painted[~kept].numpy(), predicted[~kept.numpy()], atol=1e-5)


@torch.no_grad()
def test_a_class_token_is_seen_in_the_encoder_and_stays_there():
    method, x = mae(CLASS), images()
    lengths = []
    for part in (method.encoder.net.blocks[0], method.decoder[0]):
        part.register_forward_pre_hook(lambda _, given: lengths.append(given[0].shape[1]))
    before = term(method, x)
    assert lengths == [7, 25]
    method.encoder.net.cls_token += 1 + torch.randn_like(method.encoder.net.cls_token)
    assert term(method, x).item() != pytest.approx(before.item(), rel=1e-6)


def test_the_encoder_never_reads_what_is_hidden():
    method, x = mae(), images()
    torch.manual_seed(5)
    seen = method.pictures(x)["seen"]
    made = []
    method.encoder.net.norm.register_forward_hook(lambda *found: made.append(found[-1]))
    for view in (x, seen):
        torch.manual_seed(5)
        method.pictures(view)
    assert torch.equal(*made)


def test_only_hidden_patches_cost_anything():
    method, x = mae(normalize_target=False), images()
    made = []
    method.pixels.register_forward_hook(lambda *found: made.append(found[-1]))
    loss = term(method, x)
    assert made[0].shape[1] == 19  # of 25
    (gradient,) = torch.autograd.grad(loss, made)
    assert gradient.ne(0).all()


@pytest.mark.parametrize("name", ["vit-nano", CLASS])
def test_weights_begin_as_in_the_authors_code(name):
    torch.manual_seed(0)
    method = MAE(encoders.build(name, channels=3, size=20, patch=4), **SMALL | {"dim": 48})
    linear = [part for part in method.modules() if isinstance(part, nn.Linear)]
    assert len(linear) == 4 * (len(method.encoder.net.blocks) + 2) + 2
    weights = [(part.weight, sum(part.weight.shape)) for part in linear]
    embedding = method.encoder.net.patch_embed.proj.weight
    weights.append((embedding, len(embedding) + 3 * 4 * 4))
    for weight, fans in weights:
        bound = math.sqrt(6 / fans)
        assert 0.98 * bound < weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
    assert not any(part.bias.any() for part in linear)
    assert method.mask.std().item() == pytest.approx(0.02, rel=0.4)
    token = method.encoder.net.cls_token
    assert token is None or token.std().item() == pytest.approx(0.02, rel=0.4)


@pytest.mark.parametrize("depth", [1, 3])
def test_the_decoder_is_as_deep_as_asked_for_and_ends_in_a_norm(depth):
    method = mae(depth=depth)
    *blocks, norm = method.decoder
    assert len(blocks) == depth
    assert isinstance(norm, nn.LayerNorm)
    assert {block.attn.num_heads for block in blocks} == {3}


def test_the_papers_decoder_by_default():
    decoder = MAE.__init__.__kwdefaults__
    assert [decoder[name] for name in ("ratio", "dim", "depth", "heads")] == [0.75, 512, 8, 16]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"ratio": 0.0}, "--ratio"),
        ({"ratio": 0.97}, "leaves nothing"),
        ({"dim": 30, "heads": 3}, "make 3 divide it"),
        ({"heads": 5}, "make 5 divide it"),
    ],
)
def test_bad_settings_are_one_line(settings, said):
    with pytest.raises(UserError, match=said) as error:
        mae(**settings)
    assert "\n" not in str(error.value)


def test_an_encoder_without_tokens_is_refused():
    with pytest.raises(UserError, match="vit-nano"):
        MAE(encoders.build("resnet-nano", channels=1, size=16))
