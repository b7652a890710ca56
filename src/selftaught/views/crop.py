"""Random crops of whole batches, resized and flipped by products of small matrices."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from selftaught.errors import UserError
from selftaught.precision import float32
from selftaught.trees import map_tree, rows
from selftaught.views.drawing import (
    check_probability,
    check_range,
    pieces,
    products,
    uniform,
)

CANDIDATES = 10  # boxes tried before the central one, as in torchvision's RandomResizedCrop


def _check_size(size: int) -> None:
    if size < 1:
        raise UserError(f"a view of {size} pixels; give a size of at least 1")


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


class SquareParameters(NamedTuple):
    """What `Square` draws; it does not depend on the sizes of the images."""

    area: Tensor  # (n,) shares of the area of the image's largest square
    place: Tensor  # (n, 2) in [0, 1): vertical, horizontal
    flip: Tensor  # (n,) bool


class CentreParameters(NamedTuple):
    """What `Centre` draws: nothing is flipped."""

    flip: Tensor  # (n,) bool


@dataclass(frozen=True)
class Crop:
    """A random box of the image, resized to a square, and flipped with probability ``flip``.

    It is resized bilinearly or with ``bicubic``, and antialiased.

    The box is the one of torchvision's RandomResizedCrop (Szegedy et al. 2014,
    https://arxiv.org/abs/1409.4842): the first of ten with an area uniform in ``scale`` and a width
    over height log-uniform in ``ratio`` that fits, else a central one as large as ``ratio`` allows.
    """

    size: int
    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    bicubic: bool = False

    def __post_init__(self) -> None:
        _check_size(self.size)
        check_range("scale", self.scale)
        check_range("ratio", self.ratio)
        check_probability(self.flip)

    def draw(self, generator: Generator, n: int) -> CropParameters:
        """Parameters for n images of any size."""
        low, high = map(math.log, self.ratio)
        return CropParameters(
            area=uniform(generator, n, CANDIDATES, low=self.scale[0], high=self.scale[1]),
            ratio=uniform(generator, n, CANDIDATES, low=low, high=high).exp(),
            place=uniform(generator, n, 2),
            flip=uniform(generator, n) < self.flip,
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
class Square:
    """A random square of the image, resized, so that nothing changes its shape.

    Its area is uniform in ``scale`` of that of the image's largest square, and it lies anywhere in
    the image. It is flipped with probability ``flip``.
    """

    size: int
    scale: tuple[float, float] = (0.08, 1.0)
    flip: float = 0.5

    def __post_init__(self) -> None:
        _check_size(self.size)
        check_range("scale", self.scale)
        check_probability(self.flip)

    def draw(self, generator: Generator, n: int) -> SquareParameters:
        """Parameters for n images of any size."""
        return SquareParameters(
            area=uniform(generator, n, low=self.scale[0], high=self.scale[1]),
            place=uniform(generator, n, 2),
            flip=uniform(generator, n) < self.flip,
        )

    def boxes(
        self, parameters: SquareParameters, height: int | Tensor, width: int | Tensor
    ) -> Boxes:
        """The boxes in images of the given sizes, which are numbers or (n,) tensors."""
        full = torch.stack(_sizes(parameters.flip, height, width), 1)  # (n, 2)
        largest = full.min(1).values
        side = (parameters.area.double().sqrt() * largest).round().clamp(min=1).minimum(largest)
        spare = full - side[:, None] + 1
        top, left = (parameters.place.double() * spare).floor().long().unbind(1)
        return Boxes(top, left, side.long(), side.long())


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


def resized_crop(
    x: Tensor, boxes: Boxes, flip: Tensor, size: int, *, bicubic: bool = False
) -> Tensor:
    """The boxes of a uint8 batch (n, C, H, W), resized and flipped: uint8 (n, C, size, size).

    Antialiased: torchvision's resized_crop, bilinear or bicubic, then horizontal_flip, to within
    one grey level where nothing overshoots (torchvision rounds between its two passes and cuts
    there what bicubic ones overshoot, this does so only afterwards).
    """
    boxes, flip = map_tree(lambda tensor: tensor.to(x.device), (boxes, flip))
    y = x.new_empty((*x.shape[:2], size, size))
    for piece in pieces(x):
        part = resample(x[piece], rows(boxes, piece), flip[piece], size, bicubic=bicubic)
        y[piece] = part.round_().clamp_(0, 255)
    return y


@float32
def resample(x: Tensor, boxes: Boxes, flip: Tensor, size: int, *, bicubic: bool = False) -> Tensor:
    """`resized_crop` before it rounds: float32, on the scale of x.

    A separable resize is one matrix from either side, so a batch of crops is two batched products.
    """
    kernel = _cubic if bicubic else _triangle
    down = _weights(boxes.top, boxes.height, torch.zeros_like(flip), x.shape[2], size, kernel)
    across = _weights(boxes.left, boxes.width, flip, x.shape[3], size, kernel)
    return products(down, x.float(), across)


def _weights(
    start: Tensor,
    length: Tensor,
    flip: Tensor,
    pixels: int,
    size: int,
    kernel: Callable[[Tensor], Tensor],
) -> Tensor:
    """Weights (n, size, pixels) of the antialiased resize of pixels start ... start + length.

    Each row is the kernel, as wide as the stride or as a pixel where that is wider, cut to the box.
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
    weights = kernel(distance)
    return weights.mul_(weights.sum(2, keepdim=True).reciprocal_())


def _triangle(distance: Tensor) -> Tensor:
    return distance.neg_().add_(1).clamp_(min=0)


def _cubic(distance: Tensor) -> Tensor:
    """Keys 1981, Cubic Convolution Interpolation for Digital Image Processing, with a = -1/2."""
    d = distance.clamp_(max=2)
    near = (1.5 * d - 2.5) * d.square() + 1
    far = ((2.5 - 0.5 * d) * d - 4) * d + 2
    return torch.where(d < 1, near, far)
