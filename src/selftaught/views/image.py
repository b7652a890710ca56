"""Random image views, batched: crops, colours, blur.

Every random thing is split in two. ``draw(generator, n)`` draws its parameters for n images,
tensors with n rows, from the given generator only; ``apply(x, parameters)`` is deterministic and
batched, on the device of x. Parameters are drawn for the global batch and each process takes its
`rows`, so what an image looks like does not depend on how many processes there are. With the same
parameters each operation equals torchvision.transforms.v2.functional, image by image.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from selftaught.errors import UserError
from selftaught.precision import float32

CANDIDATES = 10  # boxes tried before the central one, as in torchvision's RandomResizedCrop
LUMA = (0.2989, 0.587, 0.114)  # ITU-R BT.601, to the digits that torchvision has
PIECE = 2**19  # numbers of a batch worked on at a time on a processor: what its cache holds
SMALL = 112  # pixels a side up to which, there, a batch is cropped faster at once than one by one
TINY = torch.finfo(torch.float32).tiny
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)


def rows(parameters: Any, index: Any) -> Any:
    """The same tree of tuples, NamedTuples and lists, each tensor indexed on its first axis."""
    return _map(lambda tensor: tensor[index], parameters)


def _map(function: Callable[[Tensor], Tensor], tree: Any) -> Any:
    if isinstance(tree, Tensor):
        return function(tree)
    branches = [_map(function, branch) for branch in tree]
    return type(tree)(*branches) if hasattr(tree, "_fields") else type(tree)(branches)


def _uniform(generator: Generator, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
    return torch.empty(shape, device=generator.device).uniform_(low, high, generator=generator)


def _check_range(name: str, bounds: tuple[float, float]) -> None:
    if not 0 < bounds[0] <= bounds[1]:
        raise UserError(f"{name} is {bounds}; give two positive numbers, the smaller one first")


def _check_size(size: int) -> None:
    if size < 1:
        raise UserError(f"a view of {size} pixels; give a size of at least 1")


# Crops


class Boxes(NamedTuple):
    """One rectangle an image, in pixels: (n,) long tensors."""

    top: Tensor
    left: Tensor
    height: Tensor
    width: Tensor


class CropParameters(NamedTuple):
    """What `Crop` draws; it does not depend on the sizes of the images."""

    area: Tensor  # (n, 10) shares of the image's area
    ratio: Tensor  # (n, 10) width over height
    place: Tensor  # (n, 2) in [0, 1): vertical, horizontal
    flip: Tensor  # (n,) bool


class CentreParameters(NamedTuple):
    """What `Centre` draws: nothing is flipped."""

    flip: Tensor  # (n,) bool


@dataclass(frozen=True)
class Crop:
    """A random box of the image, resized to a square, and flipped with probability ``flip``.

    The box is the one of torchvision's RandomResizedCrop (Szegedy et al. 2014,
    https://arxiv.org/abs/1409.4842): the first of ten with an area uniform in ``scale`` and a width
    over height log-uniform in ``ratio`` that fits, else a central one as large as ``ratio`` allows.
    """

    size: int
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5

    def __post_init__(self) -> None:
        _check_size(self.size)
        _check_range("scale", self.scale)
        _check_range("ratio", self.ratio)
        _check_probability(self.flip)

    def draw(self, generator: Generator, n: int) -> CropParameters:
        """Parameters for n images of any size."""
        low, high = map(math.log, self.ratio)
        return CropParameters(
            area=_uniform(generator, n, CANDIDATES, low=self.scale[0], high=self.scale[1]),
            ratio=_uniform(generator, n, CANDIDATES, low=low, high=high).exp(),
            place=_uniform(generator, n, 2),
            flip=_uniform(generator, n) < self.flip,
        )

    def boxes(self, parameters: CropParameters, height: int | Tensor, width: int | Tensor) -> Boxes:
        """The boxes in images of the given sizes, which are numbers or (n,) tensors."""
        full_height, full_width = _sizes(parameters.flip, height, width)  # (n,)
        area = parameters.area.double() * (full_height * full_width)[:, None]  # (n, 10)
        ratio = parameters.ratio.double()
        heights = (area / ratio).sqrt().round()
        widths = (area * ratio).sqrt().round()
        fits = (heights >= 1) & (widths >= 1)
        fits &= (heights <= full_height[:, None]) & (widths <= full_width[:, None])
        first = fits.int().argmax(1, keepdim=True)  # (n, 1)
        found = fits.any(1)

        narrowest, widest = self.ratio
        largest_height = (full_width / narrowest).round().clamp(min=1).minimum(full_height)
        largest_width = (full_height * widest).round().clamp(min=1).minimum(full_width)
        box_height = torch.where(found, heights.gather(1, first).squeeze(1), largest_height)
        box_width = torch.where(found, widths.gather(1, first).squeeze(1), largest_width)

        spare = torch.stack([full_height - box_height, full_width - box_width], 1)  # (n, 2)
        place = (parameters.place.double() * (spare + 1)).floor()
        top, left = torch.where(found[:, None], place, (spare / 2).floor()).long().unbind(1)
        return Boxes(top, left, box_height.long(), box_width.long())


@dataclass(frozen=True)
class Centre:
    """The central square of the image, as large as it can be, resized; nothing is random."""

    size: int

    def __post_init__(self) -> None:
        _check_size(self.size)

    def draw(self, generator: Generator, n: int) -> CentreParameters:
        """Parameters for n images; the generator is left alone."""
        return CentreParameters(torch.zeros(n, dtype=torch.bool, device=generator.device))

    def boxes(
        self, parameters: CentreParameters, height: int | Tensor, width: int | Tensor
    ) -> Boxes:
        """The boxes in images of the given sizes, where torchvision's center_crop has them."""
        full_height, full_width = _sizes(parameters.flip, height, width)
        side = full_height.minimum(full_width)
        top, left = ((full - side).div(2).round().long() for full in (full_height, full_width))
        return Boxes(top, left, side.long(), side.long())


def _sizes(like: Tensor, height: int | Tensor, width: int | Tensor) -> tuple[Tensor, Tensor]:
    full = {"dtype": torch.float64, "device": like.device}
    return (
        torch.as_tensor(height, **full).expand(len(like)),
        torch.as_tensor(width, **full).expand(len(like)),
    )


def resized_crop(x: Tensor, boxes: Boxes, flip: Tensor, size: int) -> Tensor:
    """The boxes of a uint8 batch (n, C, H, W), resized and flipped: uint8 (n, C, size, size).

    Bilinear and antialiased: torchvision's resized_crop, then horizontal_flip, to within one grey
    level (torchvision rounds between its two passes, this does not).
    """
    boxes, flip = _map(lambda tensor: tensor.to(x.device), (boxes, flip))
    y = x.new_empty((*x.shape[:2], size, size))
    for piece in _pieces(x):
        y[piece] = resample(x[piece], rows(boxes, piece), flip[piece], size).round_()
    return y


def _pieces(x: Tensor) -> list[slice]:
    """Slices of the batch x that suit a processor's cache, or all of it on another device."""
    if x.device.type != "cpu":
        return [slice(None)]
    step = max(1, PIECE // max(1, x[:1].numel()))
    return [slice(start, start + step) for start in range(0, len(x), step)]


@float32
def resample(x: Tensor, boxes: Boxes, flip: Tensor, size: int) -> Tensor:
    """`resized_crop` before it rounds: float32, on the scale of x.

    A separable resize is one matrix from either side, so a batch of crops is two batched products.
    """
    down = _triangles(boxes.top, boxes.height, torch.zeros_like(flip), x.shape[2], size)
    across = _triangles(boxes.left, boxes.width, flip, x.shape[3], size)
    return _products(down, x.float(), across)


def _triangles(start: Tensor, length: Tensor, flip: Tensor, pixels: int, size: int) -> Tensor:
    """Weights (n, size, pixels) of the antialiased resize of pixels start ... start + length.

    Each row is a triangle as wide as the stride, or as a pixel where that is wider, cut to the box.
    """
    first, length, flip = start[:, None].float(), length[:, None].float(), flip[:, None]  # (n, 1)
    stride = length / size
    target = torch.arange(size, device=start.device) + 0.5
    centre = first + stride * torch.where(flip, size - target, target)  # (n, size)
    pixel = torch.arange(pixels, device=start.device) + 0.5  # (W,)
    inside = (pixel > first) & (pixel < first + length)  # (n, W)

    unit = stride.clamp(min=1)
    pixel = torch.where(inside, pixel / unit, math.inf)  # (n, W)
    distance = (pixel[:, None] - (centre / unit)[:, :, None]).abs_()  # (n, size, W)
    weights = distance.neg_().add_(1).clamp_(min=0)
    return weights.mul_(weights.sum(2, keepdim=True).reciprocal_())


def _products(left: Tensor, x: Tensor, right: Tensor) -> Tensor:
    """left x right^T, image by image: (n, S, H), (n, C, H, W), (n, T, W) -> (n, C, S, T)."""
    n, channels, height, _ = x.shape
    y = x.flatten(1, 2) @ right.mT  # (n, C H, T)
    return left[:, None] @ y.view(n, channels, height, right.shape[1])


# Colours and blur


def _check_probability(p: float) -> None:
    if not 0 <= p <= 1:
        raise UserError(f"a probability of {p}; give a number from 0 to 1")


@float32
def _change(x: Tensor, parameters: Any, change: Callable[[Tensor, Any], Tensor]) -> Tensor:
    """x with the images that are ``on`` changed, and the others exactly as they were.

    ``change`` is given a copy of those images, which it may write to.
    """
    index = parameters.on.nonzero().squeeze(1)
    chosen = _map(lambda tensor: tensor.to(x.device), rows(parameters, index))
    index = index.to(x.device)
    return x.index_copy(0, index, change(x[index], chosen))


class JitterParameters(NamedTuple):
    """What `Jitter` draws."""

    on: Tensor  # (n,) bool
    order: Tensor  # (n, 4) which of the four comes first, second, third, last
    factors: Tensor  # (n, 4) brightness, contrast, saturation, hue


@dataclass(frozen=True)
class Jitter:
    """Brightness, contrast, saturation and hue changed by random amounts, in a random order.

    torchvision's ColorJitter, except that each image has its own order. The first three factors are
    uniform in [max(0, 1 - a), 1 + a], that of hue in [-a, a] (in turns; at most one half). Images
    of one channel have no saturation and no hue to change.
    """

    brightness: float
    contrast: float
    saturation: float
    hue: float
    p: float = 0.8

    def __post_init__(self) -> None:
        _check_probability(self.p)
        if min(self.brightness, self.contrast, self.saturation) < 0 or not 0 <= self.hue <= 0.5:
            raise UserError(
                f"{self} is out of range; give amounts of at least 0, and a hue of at most 0.5"
            )

    def draw(self, generator: Generator, n: int) -> JitterParameters:
        """Parameters for n images."""
        amounts = (self.brightness, self.contrast, self.saturation)
        factors = [_uniform(generator, n, low=max(0, 1 - a), high=1 + a) for a in amounts]
        hue = _uniform(generator, n, low=-self.hue, high=self.hue)
        return JitterParameters(
            on=_uniform(generator, n) < self.p,
            order=_uniform(generator, n, 4).argsort(1),
            factors=torch.stack([*factors, hue], 1),
        )

    def apply(self, x: Tensor, parameters: JitterParameters) -> Tensor:
        """The images x in [0, 1], (n, C, H, W) with C = 1 or 3, changed."""
        return _change(x, parameters, _jitter)


def _jitter(x: Tensor, parameters: JitterParameters) -> Tensor:
    """The first three are maps of the colours, x -> clamp(M x + b); hue is not.

    At each place of the order all images go through one such map (the identity for those whose turn
    it is to change hue), and those images through theirs.
    """
    n, channels = x.shape[:2]
    kinds = 2 if channels == 1 else 4
    order = parameters.order[parameters.order < kinds].view(n, kinds)
    luma = _luma(x)
    for kind in order.unbind(1):  # (n,)
        factor = parameters.factors.gather(1, kind[:, None])  # (n, 1)
        rest = torch.where(kind[:, None] == HUE, 0, 1 - factor)
        to_gray = torch.where(kind[:, None] == SATURATION, rest, 0)
        to_mean = torch.where(kind[:, None] == CONTRAST, rest, 0)
        keep = (1 - rest)[:, :, None] * torch.eye(channels, device=x.device)
        colours = keep + to_gray[:, :, None] * luma  # (n, C, C)
        level = to_mean * (x.mean((2, 3)) @ luma)[:, None]  # (n, 1)
        x = torch.baddbmm(level[:, :, None], colours, x.flatten(2)).clamp_(0, 1).view_as(x)
        turned = ((kind == HUE) & (factor[:, 0] != 0)).nonzero().squeeze(1)
        if len(turned):
            x[turned] = _turn_hue(x[turned], factor[turned])
    return x


def _luma(x: Tensor) -> Tensor:
    """The weight in its gray value of each channel of x: (C,)."""
    if x.shape[1] not in (1, 3):
        raise UserError(f"colours of images of {x.shape[1]} channels; give images of 1 or 3")
    return torch.tensor(LUMA if x.shape[1] == 3 else (1.0,), device=x.device)


def _turn_hue(x: Tensor, turns: Tensor) -> Tensor:
    """The colours of x (n, 3, H, W) turned round the hue circle by ``turns`` (n, 1), as in HSV.

    In sixths of a turn from red, with M the largest channel and m the smallest, the hue of a colour
    is (G + B - R + M - 2m) / (M - m) towards green, or as far towards blue. Back from it, a channel
    at distance d (0 to 3) from the hue is M - (M - m) clamp(d - 1, 0, 1).
    """
    red, green, blue = x.unbind(1)  # (n, H, W)
    largest = torch.maximum(torch.maximum(red, green), blue)
    smallest = torch.minimum(torch.minimum(red, green), blue)
    chroma = largest - smallest
    hue = (green + blue).sub_(red).add_(largest).sub_(smallest, alpha=2)
    hue = hue.div_(chroma.clamp(min=TINY)).copysign_(green - blue).add_(6 * turns[:, :, None])
    hue = hue.sub_((hue / 6).floor_(), alpha=6)  # in [0, 6]

    channel = torch.tensor((0.0, 2.0, 4.0), device=x.device)[:, None, None]
    fall = (hue[:, None] - channel).abs_().sub_(3).abs_().neg_().add_(2).clamp_(0, 1)
    return torch.addcmul(largest[:, None], chroma[:, None], fall, value=-1)


class Switch(NamedTuple):
    """What `Gray` and `Solarize` draw."""

    on: Tensor  # (n,) bool


@dataclass(frozen=True)
class Gray:
    """Colours to gray, with the number of channels kept."""

    p: float

    def __post_init__(self) -> None:
        _check_probability(self.p)

    def draw(self, generator: Generator, n: int) -> Switch:
        """Parameters for n images."""
        return Switch(_uniform(generator, n) < self.p)

    def apply(self, x: Tensor, parameters: Switch) -> Tensor:
        """The images x, (n, C, H, W) with C = 1 or 3, some of them gray."""
        return _change(x, parameters, _gray)


def _gray(x: Tensor, _: Switch) -> Tensor:
    weighted = x * _luma(x)[:, None, None]
    return weighted.sum(1, keepdim=True).expand_as(x)


@dataclass(frozen=True)
class Solarize:
    """Values of at least ``threshold`` inverted."""

    threshold: float
    p: float

    def __post_init__(self) -> None:
        _check_probability(self.p)

    def draw(self, generator: Generator, n: int) -> Switch:
        """Parameters for n images."""
        return Switch(_uniform(generator, n) < self.p)

    def apply(self, x: Tensor, parameters: Switch) -> Tensor:
        """The images x in [0, 1], some of them solarized."""
        return _change(x, parameters, lambda x, _: torch.where(x >= self.threshold, 1 - x, x))


class BlurParameters(NamedTuple):
    """What `Blur` draws."""

    on: Tensor  # (n,) bool
    sigma: Tensor  # (n,) in pixels


@dataclass(frozen=True)
class Blur:
    """A Gaussian blur of a width uniform in ``sigma``, over ``kernel`` by ``kernel`` pixels.

    The kernel is that of BYOL for views of 224 pixels (Grill et al. 2020,
    https://arxiv.org/abs/2006.07733, appendix B). Edges are reflected, over and over where the
    kernel is wider than the image (torchvision refuses that).
    """

    sigma: tuple[float, float] = (0.1, 2.0)
    p: float = 0.5
    kernel: int = 23

    def __post_init__(self) -> None:
        _check_range("sigma", self.sigma)
        _check_probability(self.p)
        if self.kernel < 1 or self.kernel % 2 == 0:
            raise UserError(f"a blur kernel of {self.kernel} pixels; give an odd number")

    def draw(self, generator: Generator, n: int) -> BlurParameters:
        """Parameters for n images."""
        low, high = self.sigma
        return BlurParameters(
            on=_uniform(generator, n) < self.p, sigma=_uniform(generator, n, low=low, high=high)
        )

    def apply(self, x: Tensor, parameters: BlurParameters) -> Tensor:
        """The images x in [0, 1], some of them blurred."""
        return _change(x, parameters, self._blur)

    def _blur(self, x: Tensor, parameters: BlurParameters) -> Tensor:
        offset = torch.arange(self.kernel, device=x.device) - self.kernel // 2
        taps = (-0.5 * (offset / parameters.sigma[:, None]).square()).softmax(1)  # (n, K)
        down, across = (_bands(taps, offset, size) for size in x.shape[2:])
        return _products(down, x, across).clamp_(0, 1)


def _bands(taps: Tensor, offset: Tensor, size: int) -> Tensor:
    """The convolution with ``taps`` (n, K) on ``size`` pixels, reflected, as matrices (n, S, S)."""
    reach = torch.arange(size, device=taps.device)[:, None] + offset  # (S, K)
    period = max(2 * (size - 1), 1)
    reach = reach.remainder(period)
    reach = torch.minimum(reach, period - reach).clamp(max=size - 1)
    place = F.one_hot(reach, size).to(taps.dtype)  # (S, K, S)
    return (taps @ place.transpose(0, 1).flatten(1)).view(-1, size, size)


# Views


class View:
    """One view of each image: a crop, then what changes its colours.

    ``View(Crop(32), Jitter(0.4, 0.4, 0.4, 0.1), Gray(0.2))`` is drawn once for the global batch;
    ``crop`` needs the images and gives small uint8 batches, ``apply`` needs only those.
    """

    def __init__(self, crop: Crop | Centre, *then: Jitter | Gray | Blur | Solarize) -> None:
        self.size = crop.size
        self.cropper: Any = crop
        self.then: tuple[Any, ...] = then

    def draw(self, generator: Generator, n: int) -> tuple[Any, ...]:
        """The parameters of each step for n images, the crop's first."""
        return tuple(step.draw(generator, n) for step in (self.cropper, *self.then))

    def crop(self, images: Tensor | Sequence[Tensor], parameters: tuple[Any, ...]) -> Tensor:
        """The crops, uint8 (n, C, size, size).

        ``images`` is a uint8 batch (n, C, H, W), or a sequence of n images (C, Hi, Wi). Small
        images of one size are cropped all at once, others one by one; the two agree to within one
        grey level.
        """
        chosen = parameters[0]
        if isinstance(images, Tensor) and (
            images.device.type != "cpu" or max(images.shape[2:]) <= SMALL
        ):
            boxes = self.cropper.boxes(chosen, *images.shape[2:])
            return resized_crop(images, boxes, chosen.flip, self.size)
        height, width = torch.tensor([image.shape[1:] for image in images]).unbind(1)
        boxes = self.cropper.boxes(chosen, height, width)
        crops = [
            _resize(image[:, top : top + height, left : left + width], self.size)
            for image, top, left, height, width in zip(
                images, *(side.tolist() for side in boxes), strict=True
            )
        ]
        batch = torch.stack(crops)
        return torch.where(chosen.flip.to(batch.device)[:, None, None, None], batch.flip(3), batch)

    def apply(self, x: Tensor, parameters: tuple[Any, ...]) -> Tensor:
        """The uint8 crops x as float32 in [0, 1], each step applied in turn."""
        y = torch.empty(x.shape, device=x.device)
        for piece in _pieces(x):
            part = x[piece].float().div_(255)
            for step, chosen in zip(self.then, rows(parameters[1:], piece), strict=True):
                part = step.apply(part, chosen)
            y[piece] = part
        return y


def _resize(image: Tensor, size: int) -> Tensor:
    """One uint8 image (C, H, W), bilinear and antialiased: (C, size, size).

    Whole numbers are quicker, but only a processor has them, and PyTorch 2.14's fail an internal
    assertion on three channels where the result is a single pixel.
    """
    native = image.device.type == "cpu" and size > 1
    x = image[None] if native else image[None].float()
    y = F.interpolate(x, size=(size, size), mode="bilinear", antialias=True)[0]
    return y if y.dtype == torch.uint8 else y.round_().to(torch.uint8)


class Views:
    """Several views of each image, normalised by a mean and a standard deviation per channel."""

    def __init__(self, views: Sequence[View], mean: Sequence[float], std: Sequence[float]) -> None:
        if len(mean) != len(std) or min(std) <= 0:
            raise UserError("mean and std differ in length or std is not positive; give one each")
        self.views = tuple(views)
        self.mean = tuple(mean)
        self.std = tuple(std)

    def draw(self, generator: Generator, n: int) -> list[tuple[Any, ...]]:
        """The parameters of each view for n images."""
        return [view.draw(generator, n) for view in self.views]

    def crop(
        self, images: Tensor | Sequence[Tensor], parameters: Sequence[tuple[Any, ...]]
    ) -> list[Tensor]:
        """The crops of each view, uint8 (n, C, size, size)."""
        pairs = zip(self.views, parameters, strict=True)
        return [view.crop(images, chosen) for view, chosen in pairs]

    def apply(
        self, crops: Sequence[Tensor], parameters: Sequence[tuple[Any, ...]]
    ) -> tuple[Tensor, ...]:
        """The views, float32 and normalised; raises UserError where the channels do not match."""
        for x in crops:
            if x.shape[1] != len(self.mean):
                raise UserError(
                    f"images of {x.shape[1]} channels, a mean of {len(self.mean)}; make them agree"
                )
        triples = zip(self.views, crops, parameters, strict=True)
        return tuple(self._normalise(view.apply(x, chosen)) for view, x, chosen in triples)

    def _normalise(self, x: Tensor) -> Tensor:
        mean, std = torch.tensor((self.mean, self.std), device=x.device)[:, :, None, None]
        return x.sub_(mean).div_(std)
