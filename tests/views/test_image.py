import math
import pickle

import pytest
import torch
import torchvision.transforms.v2 as reference
import torchvision.transforms.v2.functional as TF
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp, kstest
from torchvision.transforms.v2 import _geometry

from selftaught.errors import UserError
from selftaught.views import drawing
from selftaught.views.colour import HUE, BlurParameters, Switch
from selftaught.views.image import (
    Blur,
    Boxes,
    Centre,
    Crop,
    Gray,
    Jitter,
    Solarize,
    Square,
    View,
    Views,
    resample,
    resized_crop,
    rows,
)

sides = st.integers(1, 70)
OPERATIONS = [Jitter(0.8, 0.8, 0.8, 0.2), Gray(0.5), Blur(kernel=9), Solarize(0.5, 0.5)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pixels(*shape, seed=0):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator(seed))


def photos(n, channels, seed=0):
    """Float images with saturated, gray and black pixels among the others."""
    x = torch.rand(n, channels, 17, 23, generator=generator(seed))
    x[:, :, :2] = x[:, :1, :2]
    x[:, :, 2] = x[:, :, 2].round()
    x[:, 1:, 3] = x[:, :1, 3] / 2
    return x


def flat(tree):
    return [tree] if isinstance(tree, torch.Tensor) else [leaf for t in tree for leaf in flat(t)]


def same(a, b):
    return all(torch.equal(s, t) for s, t in zip(flat(a), flat(b), strict=True))


def two_views(channels):
    colours = (Jitter(0.4, 0.4, 0.4, 0.1), Gray(0.2), Solarize(0.5, 0.2))
    small, large = View(Crop(12), *colours), View(Crop(20, flip=0.0), *colours, Blur(kernel=5))
    return Views([small, large], mean=[0.4] * channels, std=[0.2] * channels)


class Script:
    """Stands in for torch in torchvision's RandomResizedCrop and hands it our numbers."""

    def __init__(self, area, ratio, place):
        self.ranges = [number for pair in zip(area, ratio, strict=True) for number in pair]
        self.place = list(place)

    def empty(self, _):
        return self

    def uniform_(self, low, high):
        return self.ranges.pop(0)

    def exp(self, number):
        return number

    def randint(self, low, high, size):
        return torch.tensor(math.floor(self.place.pop(0).item() * high))


# Crops


@pytest.mark.parametrize(
    ("height", "width"), [(28, 28), (375, 500), (1, 9), (40, 3), (2, 50), (1, 1)]
)
@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.9, 1.3)])
def test_boxes_are_those_of_torchvision(monkeypatch, height, width, scale):
    crop = Crop(8, scale=scale)
    parameters = crop.draw(generator(), 40)
    boxes = crop.boxes(parameters, height, width)
    theirs = reference.RandomResizedCrop(8, scale=scale)
    for i in range(40):
        script = Script(parameters.area[i], parameters.ratio[i], parameters.place[i])
        monkeypatch.setattr(_geometry, "torch", script)
        expected = theirs.make_params([torch.empty(1, height, width)])
        monkeypatch.undo()
        assert {name: getattr(boxes, name)[i].item() for name in Boxes._fields} == expected


def test_area_is_distributed_as_torchvisions():
    height, width, n = 480, 640, 1500
    crop, theirs = Crop(8), reference.RandomResizedCrop(8)
    boxes = crop.boxes(crop.draw(generator(), n), height, width)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        drawn = [theirs.make_params([torch.empty(1, height, width)]) for _ in range(n)]
    assert (
        ks_2samp((boxes.height * boxes.width), [p["height"] * p["width"] for p in drawn])[1] > 0.05
    )
    assert ks_2samp(boxes.top, [p["top"] for p in drawn])[1] > 0.05
    assert ks_2samp(boxes.left, [p["left"] for p in drawn])[1] > 0.05


@given(sides, sides, st.floats(0.01, 2.0), st.floats(0.2, 4.0), st.integers(0, 99))
@example(5, 1, 0.5, 3.0, 0)
@example(1, 5, 0.5, 0.2, 0)
@settings(max_examples=60, deadline=None)
def test_boxes_lie_inside_the_image(height, width, scale, ratio, seed):
    random = Crop(4, scale=(scale, 1.5 * scale), ratio=(ratio, 1.5 * ratio))
    for crop in (random, Crop(4), Square(4, scale=(scale, 1.5 * scale)), Centre(4)):
        boxes = crop.boxes(crop.draw(generator(seed), 8), height, width)
        assert all(side.dtype == torch.long for side in boxes)
        assert (boxes.height >= 1).all()
        assert (boxes.width >= 1).all()
        assert (boxes.top >= 0).all()
        assert (boxes.left >= 0).all()
        assert (boxes.top + boxes.height <= height).all()
        assert (boxes.left + boxes.width <= width).all()


def test_ratio_is_log_uniform():
    ratio = Crop(8, ratio=(0.1, 10.0)).draw(generator(), 200).ratio
    assert kstest(ratio.log10().flatten(), "uniform", args=(-1, 2)).pvalue > 0.05


@pytest.mark.parametrize("crop", [Crop(8, flip=0.2), Square(8, flip=0.2)])
def test_crops_are_flipped_as_often_as_asked(crop):
    share = crop.draw(generator(), 4000).flip.float().mean().item()
    assert share == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize(("height", "width"), [(480, 640), (640, 480), (480, 480)])
def test_squares_are_shares_of_the_largest_and_lie_anywhere(height, width):
    square = Square(8, scale=(0.4, 0.9))
    top, left, high, wide = square.boxes(square.draw(generator(), 1500), height, width)
    assert torch.equal(high, wide)
    area = (high / 480) ** 2
    assert kstest(area, "uniform", args=(0.4, 0.5)).pvalue > 0.05
    for start, full, side in ((top, height, high), (left, width, wide)):
        place = (start + 0.5) / (full - side + 1)
        assert kstest(place, "uniform").pvalue > 0.05


@pytest.mark.parametrize("crop", [Crop(8), Square(8)])
def test_boxes_of_images_of_different_sizes(crop):
    parameters = crop.draw(generator(), 3)
    height, width = torch.tensor([20, 300, 1]), torch.tensor([50, 100, 7])
    together = crop.boxes(parameters, height, width)
    for i in range(3):
        alone = crop.boxes(rows(parameters, [i]), height[i].item(), width[i].item())
        assert same(alone, rows(together, [i]))


every_kernel = pytest.mark.parametrize("bicubic", [False, True], ids=["bilinear", "bicubic"])


@every_kernel
@given(sides, sides, st.integers(1, 40), st.sampled_from([1, 3]), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_resized_crop_equals_torchvision(bicubic, height, width, size, channels, seed):
    crop = Crop(size, scale=(0.02, 1.0))
    parameters = crop.draw(generator(seed), 5)
    boxes = crop.boxes(parameters, height, width)
    x = pixels(5, channels, height, width, seed=seed)
    exact = resample(x / 255, boxes, parameters.flip, size, bicubic=bicubic)
    rounded = resized_crop(x, boxes, parameters.flip, size, bicubic=bicubic)
    assert rounded.dtype == torch.uint8
    mode = TF.InterpolationMode.BICUBIC if bicubic else TF.InterpolationMode.BILINEAR
    for i in range(5):
        box = [side[i].item() for side in boxes]
        expected = TF.resized_crop(x[i] / 255, *box, [size, size], mode, antialias=True)
        expected = TF.horizontal_flip(expected) if parameters.flip[i] else expected
        assert (exact[i] - expected).abs().max() <= 1e-5
        assert (rounded[i] - 255 * expected.clamp(0, 1)).abs().max() <= 0.51
        if size > 1 and not bicubic:  # PyTorch fails an assertion of its own on one pixel
            whole = TF.resized_crop(x[i], *box, [size, size], antialias=True)
            whole = TF.horizontal_flip(whole) if parameters.flip[i] else whole
            assert (rounded[i].int() - whole.int()).abs().max() <= 1


def test_bicubic_crops_of_one_size_and_of_several_agree():
    """On images so grey that what overshoots is neither black nor white."""
    x = pixels(4, 3, 40, 50) // 4 + 96
    view = View(Crop(20, bicubic=True))
    parameters = view.draw(generator(), 4)
    together, apart = view.crop(x, parameters), view.crop(list(x), parameters)
    assert (together.int() - apart.int()).abs().max() <= 1
    linear = View(Crop(20)).crop(x, parameters)
    assert (together.int() - linear.int()).abs().max() > 2


def test_whole_image_at_its_own_size_is_left_alone():
    x = pixels(2, 1, 28, 28)
    boxes = Boxes(*(torch.tensor([side] * 2) for side in (0, 0, 28, 28)))
    y = resized_crop(x, boxes, torch.tensor([False, True]), 28)
    assert torch.equal(y[0], x[0])
    assert torch.equal(y[1], x[1].flip(2))


@pytest.mark.parametrize(("height", "width"), [(28, 28), (31, 20), (20, 31), (1, 9)])
def test_centre_is_the_central_square(height, width):
    x, view = pixels(3, 3, height, width), View(Centre(14))
    expected = TF.resize(TF.center_crop(x, [min(height, width)] * 2), [14, 14], antialias=True)
    y = view.crop(x, view.draw(generator(), 3))
    assert (y.int() - expected.int()).abs().max() <= 1


# Colours and blur


@pytest.mark.parametrize("channels", [1, 3])
def test_jitter_equals_torchvision(channels):
    jitter = Jitter(0.9, 0.9, 0.9, 0.5, p=0.7)
    parameters = jitter.draw(generator(), 60)
    x = photos(60, channels)
    y = jitter.apply(x, parameters)
    adjust = (TF.adjust_brightness, TF.adjust_contrast, TF.adjust_saturation, TF.adjust_hue)
    assert len({tuple(order) for order in parameters.order.tolist()}) > 15
    for i, on in enumerate(parameters.on):
        expected = x[i]
        for kind in parameters.order[i].tolist():
            expected = adjust[kind](expected, parameters.factors[i, kind].item())
        if on:
            torch.testing.assert_close(y[i], expected, rtol=1e-5, atol=5e-6)
        else:
            assert torch.equal(y[i], x[i])
    assert 0 < parameters.on.sum() < 60


def test_jitter_draws_torchvisions_factors():
    n = 4000
    factors = Jitter(0.4, 1.5, 0.0, 0.1).draw(generator(), n).factors
    low, high = factors.amin(0), factors.amax(0)
    torch.testing.assert_close(low, torch.tensor([0.6, 0.0, 1.0, -0.1]), rtol=0, atol=5e-3)
    torch.testing.assert_close(high, torch.tensor([1.4, 2.5, 1.0, 0.1]), rtol=0, atol=5e-3)


def test_jitter_of_nothing_changes_nothing():
    jitter, x = Jitter(0.0, 0.0, 0.0, 0.0, p=1.0), photos(9, 3)
    assert torch.equal(jitter.apply(x, jitter.draw(generator(), 9)), x)


@pytest.mark.parametrize("turn", [-0.5, -0.2, 0.01, 1 / 6, 0.5])
def test_hue_of_every_kind_of_colour(turn):
    level = torch.linspace(0, 1, 5)
    x = torch.cartesian_prod(level, level, level).T.reshape(1, 3, 5, 25)
    jitter = Jitter(0.0, 0.0, 0.0, 0.5, p=1.0)
    parameters = jitter.draw(generator(), 1)
    parameters.factors[0, HUE] = turn
    expected = TF.adjust_hue(x[0], turn)
    torch.testing.assert_close(jitter.apply(x, parameters)[0], expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_gray_equals_torchvision(channels):
    x, on = photos(4, channels), torch.tensor([True, False, True, False])
    y = Gray(0.5).apply(x, Switch(on))
    torch.testing.assert_close(y[on], TF.rgb_to_grayscale(x[on], channels), rtol=1e-5, atol=1e-6)
    assert torch.equal(y[~on], x[~on])


@pytest.mark.parametrize("channels", [1, 3])
def test_solarize_equals_torchvision(channels):
    x, on = photos(4, channels), torch.tensor([True, False, True, False])
    x[0, 0, 0, 0] = 0.25
    y = Solarize(0.25, 0.5).apply(x, Switch(on))
    assert torch.equal(y[on], TF.solarize(x[on], 0.25))
    assert torch.equal(y[~on], x[~on])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kernel", [1, 3, 9, 23])
def test_blur_equals_torchvision(channels, kernel):
    x = photos(6, channels)
    blur = Blur(sigma=(0.1, 5.0), p=0.6, kernel=kernel)
    parameters = blur.draw(generator(1), 6)
    y = blur.apply(x, parameters)
    for i, on in enumerate(parameters.on):
        if on:
            expected = TF.gaussian_blur(x[i], [kernel, kernel], [parameters.sigma[i].item()])
            torch.testing.assert_close(y[i], expected, rtol=1e-5, atol=1e-6)
        else:
            assert torch.equal(y[i], x[i])
    assert 0 < parameters.on.sum() < 6


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (5, 2), (8, 8)])
def test_blur_wider_than_the_image_keeps_a_flat_image(shape):
    x = torch.full((2, 3, *shape), 0.3)
    parameters = BlurParameters(torch.tensor([True, True]), torch.tensor([2.0, 9.0]))
    torch.testing.assert_close(Blur(kernel=23).apply(x, parameters), x)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: type(o).__name__)
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_probability_is_that_of_each_image(operation, p):
    operation = type(operation)(**{**vars(operation), "p": p})
    share = operation.draw(generator(), 4000).on.float().mean().item()
    assert share == pytest.approx(p, abs=0.03 * (0 < p < 1))


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: type(o).__name__)
@pytest.mark.parametrize("channels", [1, 3])
def test_apply_is_pure_and_stays_in_range(operation, channels):
    x = photos(20, channels)
    parameters = operation.draw(generator(), 20)
    before = x.clone()
    y = operation.apply(x, parameters)
    assert torch.equal(x, before)
    assert torch.equal(operation.apply(x, parameters), y)
    assert y.dtype == torch.float32
    assert y.min() >= 0
    assert y.max() <= 1
    nobody = operation.apply(x[:0], rows(parameters, slice(0)))
    assert nobody.shape == (0, channels, 17, 23)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: type(o).__name__)
def test_autocast_does_not_blunt_the_views(operation):
    x = photos(8, 3)
    parameters = operation.draw(generator(), 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        blunt = operation.apply(x, parameters)
    assert torch.equal(blunt, operation.apply(x, parameters))


# Views


@pytest.mark.parametrize("channels", [1, 3])
def test_a_process_takes_its_rows_of_the_global_batch(channels):
    views, x = two_views(channels), pixels(32, channels, 24, 30)
    parameters = views.draw(generator(), 32)
    whole = views.apply(views.crop(x, parameters), parameters)
    for mine in (slice(0, 16), torch.arange(16, 32), [3, 20, 31]):
        own = rows(parameters, mine)
        crops = views.crop(x[mine], own)
        for part, view in zip(views.apply(crops, own), whole, strict=True):
            torch.testing.assert_close(part, view[mine], rtol=0, atol=1e-5)


def test_large_batches_are_worked_on_in_pieces_that_fit_together(monkeypatch):
    views, x = two_views(3), pixels(11, 3, 20, 20)
    parameters = views.draw(generator(), 11)
    crops = views.crop(x, parameters)
    whole = views.apply(crops, parameters)
    monkeypatch.setattr(drawing, "PIECE", 3000)
    assert len(drawing.pieces(x)) == 6
    for a, b in zip(views.crop(x, parameters), crops, strict=True):
        assert (a.int() - b.int()).abs().max() <= 1
    for a, b in zip(views.apply(crops, parameters), whole, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5)


def test_the_generator_is_all_that_parameters_depend_on():
    views = two_views(3)
    first = views.draw(generator(5), 16)
    torch.manual_seed(7)
    state = torch.get_rng_state()
    assert same(first, views.draw(generator(5), 16))
    assert not same(first, views.draw(generator(6), 16))
    assert torch.equal(state, torch.get_rng_state())
    assert not same(first[0][0], first[1][0])


def test_rows_keeps_the_shape_of_the_tree():
    parameters = two_views(1).draw(generator(), 6)
    part = rows(parameters, slice(2, 4))
    assert [type(t) for t in part[0]] == [type(t) for t in parameters[0]]
    assert isinstance(part, list)
    assert isinstance(part[0], tuple)
    assert all(len(leaf) == 2 for leaf in flat(part))
    assert torch.equal(part[1][0].area, parameters[1][0].area[2:4])


@pytest.mark.parametrize("channels", [1, 3])
def test_views_are_normalised(channels):
    views, x = two_views(channels), pixels(8, channels, 24, 30)
    parameters = views.draw(generator(), 8)
    crops = views.crop(x, parameters)
    assert [tuple(c.shape) for c in crops] == [(8, channels, 12, 12), (8, channels, 20, 20)]
    assert all(c.dtype == torch.uint8 for c in crops)
    for view, crop, chosen, y in zip(
        views.views, crops, parameters, views.apply(crops, parameters), strict=True
    ):
        plain = view.apply(crop, chosen)
        assert plain.min() >= 0
        assert plain.max() <= 1
        torch.testing.assert_close(y, (plain - 0.4) / 0.2)


def test_a_view_takes_its_steps_in_order():
    x, on = pixels(2, 3, 8, 8), torch.tensor([True, True])
    view = View(Crop(8), Solarize(0.5, 1.0), Gray(1.0))
    y = view.apply(x, (None, Switch(on), Switch(on)))
    torch.testing.assert_close(y, TF.rgb_to_grayscale(TF.solarize(x / 255, 0.5), 3))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [1, 12])
def test_a_list_of_images_is_cropped_one_by_one(channels, size):
    sizes = [(30, 40), (200, 150), (1, 9), (20, 20), (12, 12)]
    images = [pixels(channels, *size, seed=i) for i, size in enumerate(sizes)]
    view = View(Crop(size))
    parameters = view.draw(generator(), 5)
    y = view.crop(images, parameters)
    assert y.dtype == torch.uint8
    assert 0 < parameters[0].flip.sum() < 5
    for i, photo in enumerate(images):
        one = resized_crop(
            photo[None],
            view.cropper.boxes(rows(parameters[0], [i]), *photo.shape[1:]),
            parameters[0].flip[[i]],
            size,
        )
        assert (y[i].int() - one[0].int()).abs().max() <= 1


def test_a_whole_image_becomes_one_pixel():
    x, view = pixels(3, 20, 20), View(Centre(1))
    y = view.crop([x], view.draw(generator(), 1))
    torch.testing.assert_close(y[0].float(), TF.resize(x.float(), [1, 1]), rtol=0, atol=0.51)


def test_a_batch_of_large_images_is_cropped_as_a_list():
    x, view = pixels(3, 3, 150, 130), View(Crop(32))
    parameters = view.draw(generator(), 3)
    assert torch.equal(view.crop(x, parameters), view.crop(list(x), parameters))


def test_views_travel_to_other_processes():
    views = two_views(3)
    copy = pickle.loads(pickle.dumps(views))
    parameters = copy.draw(generator(), 4)
    assert same(parameters, views.draw(generator(), 4))
    x = pixels(4, 3, 24, 24)
    crops = views.crop(x, pickle.loads(pickle.dumps(parameters)))
    assert same(copy.apply(copy.crop(x, parameters), parameters), views.apply(crops, parameters))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Crop(0),
        lambda: Crop(8, scale=(0.5, 0.1)),
        lambda: Crop(8, ratio=(0.0, 1.0)),
        lambda: Crop(8, flip=1.5),
        lambda: Square(0),
        lambda: Square(8, scale=(0.5, 0.1)),
        lambda: Square(8, flip=1.5),
        lambda: Centre(-1),
        lambda: Jitter(-0.1, 0, 0, 0),
        lambda: Jitter(0, 0, 0, 0.6),
        lambda: Gray(2),
        lambda: Solarize(0.5, -1),
        lambda: Blur(kernel=4),
        lambda: Blur(sigma=(0.0, 1.0)),
        lambda: Views([View(Crop(8))], mean=[0.5], std=[0.2, 0.2]),
        lambda: Views([View(Crop(8))], mean=[0.5], std=[0.0]),
        lambda: two_views(3).apply([pixels(2, 1, 8, 8)] * 2, two_views(3).draw(generator(), 2)),
        lambda: Gray(1).apply(torch.rand(2, 4, 8, 8), Switch(torch.tensor([True, True]))),
    ],
)
def test_what_cannot_be_is_refused(make):
    with pytest.raises(UserError, match=";"):
        make()
