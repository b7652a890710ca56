import math

import pytest
import torch

from contract.small import PIXELS, build, stream
from references.masked import simmim_loss
from selftaught.errors import UserError
from selftaught.method import Reconstructs, ViewBatch
from selftaught.methods.simmim import SimMIM
from selftaught.nn import encoders
from selftaught.nn.masking import unitwise

NAMES = {"simmim": "reconstruction", "maskfeat": "histograms"}


def simmim(seed=0, patch=2, channels=3, **more):
    torch.manual_seed(seed)
    encoder = encoders.build("vit-nano", channels=channels, size=16, patch=patch)
    return SimMIM(encoder, **more).double()


def batch(n=3, channels=3):
    g = torch.Generator().manual_seed(1)
    return ViewBatch((torch.randn(n, channels, 16, 16, generator=g).double(),), torch.arange(n))


def seeded(function, *arguments):
    torch.manual_seed(5)
    return function(*arguments)


def test_the_term_is_the_papers():
    method, x = simmim(unit=2), batch().views[0]
    ours = seeded(method, batch())["reconstruction"].item()
    hidden = seeded(unitwise, 3, 8, 2, 0.6)
    assert hidden.sum(dim=1).tolist() == [4 * math.ceil(0.6 * 16)] * 3
    with torch.no_grad():
        tokens = method.encoder.tokens(x, hidden=hidden, blank=method.blank)
        painted = method.encoder.images(method.pixels(tokens))
    expected = simmim_loss(painted.numpy(), x.numpy(), hidden.numpy(), 2)
    assert ours == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_hidden_is_never_seen_and_what_is_not_is(name):
    run = build(name)
    method = run.method.double()
    x = next(stream(run, dtype=torch.float64)).views[0]
    seen = []
    method.encoder.net.norm.register_forward_hook(lambda *found: seen.append(found[-1]))

    def tokens(x):
        seeded(method, ViewBatch((x,), torch.arange(len(x))))
        return seen.pop()

    where = []
    plain = method.encoder.tokens
    method.encoder.tokens = lambda x, **more: where.append(more["hidden"]) or plain(x, **more)
    first = tokens(x)
    hidden = where[0].view(-1, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    noise = torch.randn_like(x)
    assert torch.equal(tokens(torch.where(hidden, noise, x)), first)
    assert not torch.allclose(tokens(torch.where(hidden, x, noise)), first)


@pytest.mark.parametrize("name", NAMES)
def test_only_what_is_hidden_is_predicted(name):
    """Other predictions elsewhere cost nothing: the last layer's bias alone learns there."""
    run = build(name)
    method = run.method.double()
    head = method.pixels if name == "simmim" else method.head
    made = []
    head.register_forward_hook(lambda *found: made.append(found[-1]))
    where = []
    plain = method.encoder.tokens
    method.encoder.tokens = lambda x, **more: where.append(more["hidden"]) or plain(x, **more)
    term = method(next(stream(run, dtype=torch.float64)))[NAMES[name]]
    (gradient,) = torch.autograd.grad(term, made)
    assert torch.equal(gradient.ne(0).any(dim=2), where[0])


def test_pictures_are_images_and_the_last_is_the_reconstruction():
    method, x = simmim(unit=2).eval(), batch().views[0]
    assert isinstance(method, Reconstructs)
    with torch.no_grad():
        seen, reconstruction = seeded(method.pictures, x).values()
    hidden = seeded(unitwise, 3, 8, 2, 0.6).view(3, 1, 8, 8)
    hidden = hidden.repeat_interleave(2, 2).repeat_interleave(2, 3).expand_as(x)
    assert not seen[hidden].any()
    for picture in (seen, reconstruction):
        assert torch.equal(picture[~hidden], x[~hidden])
    distance = (reconstruction - x)[hidden].abs().mean()
    torch.testing.assert_close(distance, seeded(method, batch())["reconstruction"])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("ratio", [0.0, 0.01, 0.99, 1.5, -1.0])
def test_a_ratio_that_hides_nothing_or_leaves_nothing_is_refused(name, ratio):
    if (name, ratio) == ("simmim", 0.01):  # rounded up: one square
        return
    with pytest.raises(UserError, match="--ratio") as error:
        build(name, pixels=PIXELS, ratio=ratio)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("unit", [0, 3, 5, 8])
def test_squares_that_do_not_tile_the_image_are_refused(unit):
    with pytest.raises(UserError, match="--unit"):
        simmim(unit=unit)


@pytest.mark.parametrize("name", NAMES)
def test_an_encoder_without_tokens_is_refused(name):
    with pytest.raises(UserError, match="vit-nano"):
        build(name, encoder="resnet-nano", patch=0)


def test_weights_begin_as_in_the_authors_code():
    net = simmim().encoder.net
    for number, block in enumerate(net.blocks, start=1):
        assert block.mlp.fc1.weight.abs().max() <= 0.02
        assert 0.98 < block.mlp.fc2.weight.abs().max() * (2 * number) ** 0.5 / 0.02 < 1.01
