import numpy as np
import pytest
import torch

from references.painting import channelwise
from selftaught.errors import UserError
from selftaught.nn.painting import ChannelwiseLinear, Holes, PictureCritic


def test_channelwise_equals_the_reference():
    layer = ChannelwiseLinear(3, 2).double()
    torch.nn.init.normal_(layer.bias)
    x = torch.randn(4, 3, 2, 2, dtype=torch.float64)
    slow = channelwise(*(t.detach().numpy() for t in (x.flatten(2), layer.weight, layer.bias)))
    np.testing.assert_allclose(layer(x).flatten(2).detach(), slow, rtol=1e-9)


def test_channels_stay_apart_and_places_meet():
    layer = ChannelwiseLinear(3, 4)
    x = torch.randn(2, 3, 4, 4)
    other = x.clone()
    other[:, 1, 0, 0] += 1
    moved = layer(other) != layer(x)
    assert moved[:, 1].all()
    assert not moved[:, [0, 2]].any()


@pytest.mark.parametrize("side", [4, 7, 14, 16, 28, 64, 128])
def test_the_critic_gives_one_logit_a_picture_and_sees_every_corner(side):
    critic = PictureCritic(2, side, width=4).eval()
    x = torch.randn(3, 2, side, side, requires_grad=True)
    scores = critic(x)
    assert scores.shape == (3,)
    scores.sum().backward()
    corners = x.grad[:, :, [0, 0, side // 2], [0, side // 2, side // 2]]
    assert (corners != 0).all()


def test_the_critic_is_that_of_the_authors_at_64_pixels():
    critic = PictureCritic(3, 64)
    sizes = [tuple(m.weight.shape) for m in critic.modules() if isinstance(m, torch.nn.Conv2d)]
    assert sizes == [
        (64, 3, 4, 4),
        (128, 64, 4, 4),
        (256, 128, 4, 4),
        (512, 256, 4, 4),
        (1, 512, 4, 4),
    ]
    assert sum(isinstance(m, torch.nn.BatchNorm2d) for m in critic.modules()) == 3


@pytest.mark.parametrize("size", [8, 15, 28, 128])
def test_the_centre(size):
    holes = Holes(size, "centre", overlap=1)
    hidden, weight = holes.draw(3)
    side = size // 2
    assert hidden.shape == (3, 1, size, size)
    assert weight.shape == (3, 1, side, side)
    assert (hidden.sum(dim=(1, 2, 3)) == (side - 2) ** 2).all()
    inside = hidden[:, :, holes.window, holes.window]
    assert (weight[inside] == 1).all()
    assert (weight[~inside] == 10).all()
    assert (~inside)[0, 0, 0].all()
    rows = hidden[0, 0].any(dim=1).nonzero()
    assert abs(rows[0] - (size - 1 - rows[-1])) <= 1


def test_the_published_centre_of_128_pixels():
    hidden, weight = Holes(128, "centre").draw(1)
    assert hidden[0, 0, 36:92, 36:92].all()
    assert hidden.sum() == 56**2
    assert weight.shape[2:] == (64, 64)


@pytest.mark.parametrize(("blocks", "share"), [(1, 0.25), (4, 0.25), (7, 0.4)])
def test_blocks_hide_at_most_their_share_and_lie_anywhere(blocks, share):
    torch.manual_seed(0)
    hidden, weight = Holes(28, "blocks", blocks, share).draw(4000)
    block = round(28 * (share / blocks) ** 0.5)
    counts = hidden.sum(dim=(1, 2, 3))
    assert 0.8 * blocks * block**2 <= counts.max() <= blocks * block**2
    assert counts.min() >= block**2
    assert torch.equal(weight > 0, hidden)
    assert hidden.any(dim=0).all()
    assert not torch.equal(hidden[0], hidden[1])


@pytest.mark.parametrize(
    ("more", "option"),
    [
        ({"kind": "left"}, "--hole"),
        ({"blocks": 0}, "--blocks"),
        ({"share": 0.0}, "--share"),
        ({"share": 1.0}, "--share"),
        ({"blocks": 1, "share": 0.95}, "leave nothing of 16 pixels; use a smaller --share"),
        ({"kind": "centre", "overlap": -1}, "--overlap"),
        ({"kind": "centre", "overlap": 4}, "below 4"),
        ({"rim_weight": 0.0}, "--rim-weight"),
    ],
)
def test_holes_of_no_use_are_refused(more, option):
    with pytest.raises(UserError, match=option):
        Holes(16, **more)


def test_a_critic_without_channels_is_refused():
    with pytest.raises(UserError, match="--critic-width"):
        PictureCritic(1, 16, width=0)
