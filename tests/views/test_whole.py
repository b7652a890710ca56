import torch

from selftaught.method import VOID
from selftaught.views.whole import Whole, fitted


def seen(images, **more):
    views = Whole(8, (0.5,), (0.25,), **more)
    return views.apply(views.crop(images, ()), ())


def test_the_longer_side_fills_the_square():
    assert fitted(10, 20, 8) == (4, 8)
    assert fitted(20, 10, 8) == (8, 4)
    assert fitted(1, 100, 8) == (1, 8)


def test_the_whole_image_is_seen_and_the_rest_is_zero():
    (x,) = seen([torch.full((1, 10, 20), 255, dtype=torch.uint8)])
    assert x.shape == (1, 1, 8, 8)
    assert torch.equal(x[0, 0, :4], torch.full((4, 8), 2.0))  # (1 - 0.5) / 0.25
    assert x[0, 0, 4:].abs().max() < 0.01


def test_an_image_of_the_size_stays_as_it_is():
    image = torch.arange(64, dtype=torch.uint8).reshape(1, 8, 8)
    (x,) = seen([image])
    torch.testing.assert_close(x[0], (image / 255 - 0.5) / 0.25)


def test_a_mask_follows_by_nearest_neighbours():
    image = torch.zeros(2, 4, 2, dtype=torch.uint8)
    image[1, :2], image[1, 2:] = 7, VOID
    x, mask = seen([image], masked=True)
    assert x.shape == mask.shape == (1, 1, 8, 8)
    assert mask.dtype == torch.uint8
    assert (mask[0, 0, :4, :4] == 7).all()
    assert (mask[0, 0, 4:] == VOID).all()
    assert (mask[0, 0, :, 4:] == VOID).all()


def test_a_smaller_mask_has_what_is_at_its_pixels_centres():
    image = torch.zeros(2, 24, 24, dtype=torch.uint8)
    image[1, 1::3, 1::3] = torch.arange(64, dtype=torch.uint8).reshape(8, 8)
    _, mask = seen([image], masked=True)
    assert torch.equal(mask[0, 0], torch.arange(64, dtype=torch.uint8).reshape(8, 8))
