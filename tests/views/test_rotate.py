import numpy as np
import pytest
import torch

from selftaught.errors import UserError
from selftaught.views.image import Crop, Gray, View, Views
from selftaught.views.rotate import TURNS, Turned

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.3, 0.4]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pixels(*shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator())


def made(x, channels=3):
    view = View(Crop(7), Gray(0.3))
    turned = Turned(view, MEAN[:channels], STD[:channels])
    parameters = turned.draw(generator(1), len(x))
    crops = turned.crop(x, parameters)
    plain = Views([view], MEAN[:channels], STD[:channels])
    return plain.apply(crops, parameters)[0], turned.apply(crops, parameters)


@pytest.mark.parametrize("channels", [1, 3])
def test_each_view_is_the_first_one_turned_and_nothing_else(channels):
    straight, views = made(pixels(5, channels, 12, 12), channels)
    assert len(views) == TURNS
    assert torch.equal(views[0], straight)
    for turns, view in enumerate(views):
        for image, before in zip(view.numpy(), straight.numpy(), strict=True):
            expected = np.stack([np.rot90(channel, turns) for channel in before])
            np.testing.assert_array_equal(image, expected)


def test_four_quarters_are_the_identity_and_the_four_views_differ():
    straight, views = made(pixels(3, 3, 12, 12))
    for k, view in enumerate(views):
        back = torch.rot90(view, TURNS - k, (2, 3))
        assert torch.equal(back, straight)
        assert not any(torch.equal(view, other) for other in views[k + 1 :])
    assert torch.equal(torch.rot90(views[1], 3, (2, 3)), views[0])


def test_channels_must_agree_with_the_mean():
    with pytest.raises(UserError, match="channels"):
        made(pixels(3, 3, 12, 12), channels=1)
