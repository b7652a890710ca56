"""Random image views, batched: crops, colours, blur.

Every random thing is split in two. ``draw(generator, n)`` draws its parameters for n images,
tensors with n rows, from the given generator only; ``apply(x, parameters)`` is deterministic and
batched, on the device of x. Parameters are drawn for the global batch and each process takes its
rows, so what an image looks like does not depend on how many processes there are. With the same
parameters each operation equals torchvision.transforms.v2.functional, image by image.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from selftaught.errors import UserError
from selftaught.trees import rows
from selftaught.views.colour import Blur, Gray, Jitter, Solarize
from selftaught.views.crop import Boxes, Centre, Crop, Square, resample, resized_crop
from selftaught.views.drawing import pieces

__all__ = [
    "Blur",
    "Boxes",
    "Centre",
    "Crop",
    "Gray",
    "Jitter",
    "Solarize",
    "Square",
    "View",
    "Views",
    "resample",
    "resized_crop",
]

SMALL = 112  # pixels a side up to which, there, a batch is cropped faster at once than one by one


class View:
    """One view of each image: a crop, then what changes its colours.

    ``View(Crop(32), Jitter(0.4, 0.4, 0.4, 0.1), Gray(0.2))`` is drawn once for the global batch;
    ``crop`` needs the images and gives small uint8 batches, ``apply`` needs only those.
    """

    def __init__(
        self, crop: Crop | Square | Centre, *then: Jitter | Gray | Blur | Solarize
    ) -> None:
        self.size = crop.size
        self.bicubic = isinstance(crop, Crop) and crop.bicubic
        self.cropper: Any = crop
        self.then: tuple[Any, ...] = then

    def draw(self, generator: Generator, n: int) -> tuple[Any, ...]:
        """The parameters of each step for n images, the crop's first."""
        return tuple(step.draw(generator, n) for step in (self.cropper, *self.then))

    def crop(self, images: Tensor | Sequence[Tensor], parameters: tuple[Any, ...]) -> Tensor:
        """The crops, uint8 (n, C, size, size).

        ``images`` is a uint8 batch (n, C, H, W), or a sequence of n images (C, Hi, Wi). Small
        images of one size are cropped all at once, others one by one; the two agree to within one
        grey level where nothing overshoots.
        """
        chosen = parameters[0]
        if isinstance(images, Tensor) and (
            images.device.type != "cpu" or max(images.shape[2:]) <= SMALL
        ):
            boxes = self.cropper.boxes(chosen, *images.shape[2:])
            return resized_crop(images, boxes, chosen.flip, self.size, bicubic=self.bicubic)
        height, width = torch.tensor([image.shape[1:] for image in images]).unbind(1)
        boxes = self.cropper.boxes(chosen, height, width)
        crops = []
        sides = (side.tolist() for side in (*boxes, chosen.flip))
        for image, top, left, height, width, flip in zip(images, *sides, strict=True):
            box = image[:, top : top + height, left : left + width]
            crop = _resize(box, self.size, self.bicubic)
            crops.append(crop.flip(2) if flip else crop)
        return torch.stack(crops)

    def apply(self, x: Tensor, parameters: tuple[Any, ...]) -> Tensor:
        """The uint8 crops x as float32 in [0, 1], each step applied in turn."""
        y = torch.empty(x.shape, device=x.device)
        for piece in pieces(x):
            part = x[piece].float().div_(255)
            for step, chosen in zip(self.then, rows(parameters[1:], piece), strict=True):
                part = step.apply(part, chosen)
            y[piece] = part
        return y


def _resize(image: Tensor, size: int, bicubic: bool) -> Tensor:
    """One uint8 image (C, H, W), antialiased: (C, size, size).

    Whole numbers are quicker, but only a processor has them, and PyTorch 2.14's fail an internal
    assertion on three channels where the result is a single pixel.
    """
    native = image.device.type == "cpu" and size > 1
    x = image[None] if native else image[None].float()
    mode = "bicubic" if bicubic else "bilinear"
    y = F.interpolate(x, size=(size, size), mode=mode, antialias=True)[0]
    return y if y.dtype == torch.uint8 else y.round_().clamp_(0, 255).to(torch.uint8)


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
