import dataclasses
import itertools
import math

import pytest
import torch

from contract.small import PIXELS, build, steps, stream, whole
from references.sequence import token_loss
from selftaught.errors import UserError
from selftaught.method import Samples, ViewBatch
from selftaught.methods.igpt import IGPT
from selftaught.nn.encoders import build as encoder
from selftaught.nn.pixels import PixelGPT


def igpt(palette=3, side=2, size=4, channels=1, depth=1, total=2):
    """In float64, with scores that are not all alike."""
    torch.manual_seed(0)
    shape = {"dim": 8, "heads": 2, "depth": depth, "total": total}
    net = PixelGPT(channels=channels, size=size, side=side, palette=palette, **shape)
    method = IGPT(net).double()
    with torch.no_grad():
        for p in method.parameters():
            p.add_(0.5 * torch.randn_like(p))
    return method


def batch(n=3, size=4, channels=1):
    g = torch.Generator().manual_seed(1)
    x = torch.randn(n, channels, size, size, generator=g).double()
    return ViewBatch((x,), torch.arange(n))


def scores(method, ids):
    return method.scores(method.encoder.embedded(ids[:, :-1]))


def bits(method, ids):
    """Bits per pixel of each image of the given colours, by the method's own term."""
    method.encoder.ids = lambda x: x
    return torch.stack([method(ViewBatch((i[None],), i))["bits_per_pixel"] for i in ids])


@pytest.mark.parametrize("palette", [2, 3])
def test_the_likelihoods_of_all_images_sum_to_one(palette):
    method = igpt(palette)
    ids = torch.tensor(list(itertools.product(range(palette), repeat=4)))
    likelihood = 2 ** (-4 * bits(method, ids))
    assert len(likelihood) == palette**4
    assert likelihood.sum().item() == pytest.approx(1, rel=1e-9)
    assert likelihood.std() > 1e-4


def test_the_term_is_the_papers_in_bits():
    method = igpt()
    ids = method.encoder.ids(batch().views[0])
    found = scores(method, ids).detach().flatten(0, 1).numpy()
    expected = token_loss(found, ids.flatten().numpy()) / math.log(2)
    assert method(batch())["bits_per_pixel"].item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("place", range(9))
def test_no_place_sees_its_own_pixel_or_a_later_one(place):
    method = igpt(palette=4, side=3)
    ids = torch.zeros(1, 9, dtype=torch.long)
    other = ids.clone()
    other[0, place] = 2
    changed = (scores(method, ids) - scores(method, other)).abs().amax(dim=(0, 2)) > 1e-9
    assert changed.tolist() == [i > place for i in range(9)]


def test_at_first_every_colour_is_as_likely_as_any():
    terms = build("igpt").method(next(stream(build("igpt"))))
    assert terms["bits_per_pixel"].item() == pytest.approx(3)


def test_samples_are_images_in_the_palettes_colours_and_as_likely_as_the_method_says():
    method = igpt(palette=2).eval()
    assert isinstance(method, Samples)
    with torch.no_grad():
        method.head.weight.mul_(0.3)  # else nearly all samples are one image
    torch.manual_seed(0)
    x = method.sample(4000)
    assert x.shape == (4000, 1, 4, 4)
    assert torch.isin(x, method.encoder.palette.colours).all()
    ids = torch.tensor(list(itertools.product(range(2), repeat=4)))
    drawn = method.encoder.ids(x) @ torch.tensor([8, 4, 2, 1])
    often = torch.bincount(drawn, minlength=16) / 4000
    likelihood = 2 ** (-4 * bits(method, ids))
    assert (often - likelihood).abs().max() < 0.03


def test_samples_are_what_the_whole_transformer_would_have_drawn(monkeypatch):
    """The most likely colour each time: token by token and all at once."""
    method = igpt(palette=4, side=3, channels=3)
    monkeypatch.setattr(torch, "multinomial", lambda p, n: p.argmax(dim=1, keepdim=True))
    ids = torch.zeros(2, 0, dtype=torch.long)
    for _ in range(9):
        best = method.scores(method.encoder.embedded(ids))[:, -1].argmax(dim=1, keepdim=True)
        ids = torch.cat([ids, best], dim=1)
    assert torch.equal(method.sample(2), method.encoder.images(ids))


def test_features_come_from_the_lower_blocks_which_the_whole_trains():
    method = igpt(depth=1, total=3)
    assert (len(method.encoder.blocks), len(method.blocks)) == (1, 2)
    before = method.encoder(batch().views[0])
    with torch.no_grad():
        method.blocks[0].qkv.weight.zero_()
    assert torch.equal(method.encoder(batch().views[0]), before)
    method(batch())["bits_per_pixel"].backward()
    assert all(p.grad is not None for p in method.parameters())


def test_the_palette_is_found_once_before_the_first_step_and_stays():
    run = build("igpt")
    random = run.method.encoder.palette.colours.clone()
    found = None
    for step in steps(run, 3):
        colours = run.method.encoder.palette.colours
        if step.number == 1:
            found = colours.clone()
        assert torch.equal(colours, found)
    assert not torch.equal(random, found)
    pixels = torch.cat([run.method.encoder.pixels(b.views[0]).flatten(0, 1) for b in whole()])
    assert pixels.min() < found.min() < found.max() < pixels.max()


def test_more_colours_than_the_images_have_are_refused_by_the_survey():
    method = build("igpt", palette=5).method
    x = torch.tensor([0.0, 1.0])[torch.randint(2, (4, 1, 16, 16))]
    x = x[..., :1, :1].expand(4, 1, 16, 16)
    with pytest.raises(UserError, match="--palette"):
        method.survey([ViewBatch((x,), torch.arange(4))])


@pytest.mark.parametrize(("size", "side"), [(8, 8), (28, 10)])
def test_images_are_small_and_of_few_greys_or_many_colours_by_default(size, side):
    for channels, colours in ((1, 16), (3, 512)):
        more = {"size": size, "channels": channels, "mean": (0.5,) * channels}
        pixels = dataclasses.replace(PIXELS, **more, std=(0.25,) * channels)
        found = build("igpt", pixels=pixels, side=0, palette=0).method.encoder
        assert found.side == side
        assert found.palette.colours.shape == (colours, channels)


def test_another_encoder_is_refused():
    with pytest.raises(UserError, match="gpt-nano"):
        IGPT(encoder("resnet-nano", channels=1, size=16))
    with pytest.raises(UserError, match="gpt-nano"):
        build("igpt", encoder="resnet-nano")
