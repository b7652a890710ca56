"""Common corruptions of images at five severities.

Hendrycks & Dietterich 2019, https://arxiv.org/abs/1903.12261: those of its fifteen that make sense
from 8 pixels on and in grey too, and its Gaussian blur. Up to 64 pixels a side the parameters are
those that CIFAR-10-C was made with, above it those of ImageNet-C. Beyond an image's edge every blur
sees its last row or column (the published defocus mirrors the image). Blocks of ``pixelate`` that
end inside pixels alias: a severity may do less harm than the one before. All take and return float
images (N, C, S, S) in [0, 1]; what comes out is rounded to the nearest of 256 levels, where the
authors' code cuts off to the next lower one.
"""

import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor
from torch.nn import functional as F

from selftaught.errors import UserError

SEVERITIES = (1, 2, 3, 4, 5)
SMALL = 64  # pixels a side up to which CIFAR-10-C's parameters are taken


def _gaussian_noise(x: Tensor, sd: float, g: Generator) -> Tensor:
    return x + sd * torch.randn(x.shape, generator=g)


def _shot_noise(x: Tensor, photons: float, g: Generator) -> Tensor:
    return torch.poisson(x * photons, generator=g) / photons


def _impulse_noise(x: Tensor, share: float, g: Generator) -> Tensor:
    """Salt and pepper, each value on its own."""
    hit = torch.rand(x.shape, generator=g) < share
    return torch.where(hit, (torch.rand(x.shape, generator=g) < 0.5).to(x), x)


def _gaussian_blur(x: Tensor, sd: float, g: Generator) -> Tensor:
    reach = int(4 * sd + 0.5)
    line = (-(torch.arange(-reach, reach + 1) ** 2) / (2 * sd**2)).exp()
    return _filter(x, torch.outer(line, line), "replicate")


def _defocus_blur(x: Tensor, disk: tuple[float, float], g: Generator) -> Tensor:
    """A disk of that radius, smoothed by a Gaussian of that deviation."""
    radius, sd = disk
    reach = math.floor(radius) + 1
    place = torch.arange(-reach, reach + 1)
    kernel = (place[:, None] ** 2 + place**2 <= radius**2).float()[None, None]
    wide = 1 if radius <= 8 else 2
    line = (-(torch.arange(-wide, wide + 1) ** 2) / (2 * sd**2)).exp()
    line = line / line.sum()
    smooth = F.conv2d(kernel, torch.outer(line, line)[None, None], padding=wide)
    return _filter(x, smooth[0, 0], "replicate")


def _motion_blur(x: Tensor, path: tuple[int, float], g: Generator) -> Tensor:
    """Half a Gaussian along a line, at an angle uniform in -45 to 45 degrees for each image."""
    radius, sd = path
    angle = (torch.rand(len(x), generator=g) - 0.5) * (math.pi / 2)
    weights = (-(torch.arange(2 * radius + 1) ** 2) / (2 * sd**2)).exp()
    weights = weights / weights.sum()
    height, width = x.shape[2:]
    image = torch.arange(len(x))[:, None, None]
    total = torch.zeros_like(x)
    for i, weight in enumerate(weights.tolist()):
        rows = torch.arange(height) + (i * angle.sin()).round().long()[:, None]
        columns = torch.arange(width) + (i * angle.cos()).round().long()[:, None]
        rows, columns = rows.clamp(0, height - 1), columns.clamp(0, width - 1)
        moved = x[image, :, rows[:, :, None], columns[:, None, :]]  # (N, H, W, C)
        total += weight * moved.permute(0, 3, 1, 2)
    return total


def _contrast(x: Tensor, share: float, g: Generator) -> Tensor:
    mean = x.mean((2, 3), keepdim=True)
    return (x - mean) * share + mean


def _brightness(x: Tensor, more: float, g: Generator) -> Tensor:
    """Of the value of hue, saturation, value: the largest channel, the others in proportion."""
    value = x.amax(1, keepdim=True)
    brighter = (value + more).clamp(max=1)
    return torch.where(value > 0, x * brighter / value.where(value > 0, 1), brighter)


def _pixelate(x: Tensor, share: float, g: Generator) -> Tensor:
    def change(image: Image.Image) -> Image.Image:
        width, height = (max(1, int(side * share)) for side in image.size)
        small = image.resize((width, height), Image.Resampling.BOX)
        return small.resize(image.size, Image.Resampling.BOX)

    return _by_image(x, change)


def _jpeg(x: Tensor, quality: int, g: Generator) -> Tensor:
    def change(image: Image.Image) -> Image.Image:
        file = io.BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return _by_image(x, change)


def _filter(x: Tensor, kernel: Tensor, mode: str) -> Tensor:
    """Each channel on its own, by a kernel of sum 1."""
    reach = kernel.shape[0] // 2
    kernel = (kernel / kernel.sum()).to(x).expand(x.shape[1], 1, -1, -1)
    return F.conv2d(F.pad(x, (reach,) * 4, mode=mode), kernel, groups=x.shape[1])


def _by_image(x: Tensor, change: Callable[[Image.Image], Image.Image]) -> Tensor:
    found = []
    for pixels in (x * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy():
        image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
        found.append(np.asarray(change(image)).reshape(pixels.shape))
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2).float() / 255


Change = Callable[[Tensor, Any, Generator], Tensor]

#: By name: what is done, and its parameter at each severity in CIFAR-10-C and in ImageNet-C.
CORRUPTIONS: dict[str, tuple[Change, tuple[Any, ...], tuple[Any, ...]]] = {
    "gaussian_noise": (
        *(_gaussian_noise, (0.04, 0.06, 0.08, 0.09, 0.10)),
        (0.08, 0.12, 0.18, 0.26, 0.38),
    ),
    "shot_noise": (_shot_noise, (500, 250, 100, 75, 50), (60, 25, 12, 5, 3)),
    "impulse_noise": (
        *(_impulse_noise, (0.01, 0.02, 0.03, 0.05, 0.07)),
        (0.03, 0.06, 0.09, 0.17, 0.27),
    ),
    "defocus_blur": (
        *(_defocus_blur, ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))),
        ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    ),
    "gaussian_blur": (_gaussian_blur, (0.4, 0.6, 0.7, 0.8, 1), (1, 2, 3, 4, 6)),
    "motion_blur": (
        *(_motion_blur, ((6, 1), (6, 1.5), (6, 2), (8, 2), (9, 2.5))),
        ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    ),
    "brightness": (_brightness, (0.05, 0.1, 0.15, 0.2, 0.3), (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": (_contrast, (0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05)),
    "pixelate": (_pixelate, (0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25)),
    "jpeg": (_jpeg, (80, 65, 58, 50, 40), (25, 18, 15, 10, 7)),
}


def parameters_of(size: int) -> str:
    """Whose parameters are taken for images of that side."""
    return "CIFAR-10-C" if size <= SMALL else "ImageNet-C"


@torch.no_grad()
def corrupt(x: Tensor, name: str, severity: int, generator: Generator) -> Tensor:
    """Images (N, C, S, S) in [0, 1] on the CPU, corrupted: float32 in [0, 1], of 256 levels.

    What is random is drawn from the generator. Raises UserError for an unknown name or severity.
    """
    if name not in CORRUPTIONS or severity not in SEVERITIES:
        raise UserError(
            f"no corruption {name!r} at severity {severity}; there are {', '.join(CORRUPTIONS)} "
            "at 1 to 5"
        )
    change, small, large = CORRUPTIONS[name]
    chosen = (small if parameters_of(x.shape[-1]) == "CIFAR-10-C" else large)[severity - 1]
    return (change(x, chosen, generator).clamp(0, 1) * 255).round() / 255
