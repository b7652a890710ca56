"""The whole of an image, for what has to be found in it."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from selftaught.method import VOID


def fitted(height: int, width: int, size: int) -> tuple[int, int]:
    """Height and width of an image whose longer side is made ``size`` pixels."""
    scale = size / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


class Whole:
    """The whole image, its longer side made ``size`` pixels, in the upper left of a square.

    What is left of the square is 0 once the image is normalised. With ``masked``, the last channel
    is the class of each pixel: it comes out as a second view, uint8 (n, 1, size, size), of nearest
    neighbours, and `VOID` where no image is. Nothing is random.
    """

    def __init__(
        self, size: int, mean: Sequence[float], std: Sequence[float], *, masked: bool = False
    ) -> None:
        self.size, self.mean, self.std, self.masked = size, tuple(mean), tuple(std), masked

    def draw(self, generator: Generator, n: int) -> tuple[()]:
        """Nothing."""
        return ()

    def crop(self, images: Tensor | Sequence[Tensor], parameters: tuple[()]) -> list[Tensor]:
        """The squares of n uint8 images (C, H, W): (n, C, size, size), and masks if there are."""
        channels = len(self.mean)
        empty = torch.tensor([round(255 * m) for m in self.mean], dtype=torch.uint8)
        squares = empty[:, None, None].expand(len(images), -1, self.size, self.size).clone()
        masks = torch.full((len(images), 1, self.size, self.size), VOID, dtype=torch.uint8)
        for i, image in enumerate(images):
            height, width = fitted(image.shape[1], image.shape[2], self.size)
            x = image[None, :channels].float()
            x = F.interpolate(x, (height, width), mode="bilinear", antialias=True)[0]
            squares[i, :, :height, :width] = x.round().to(torch.uint8)
            if self.masked:
                classes = F.interpolate(
                    image[None, channels:], (height, width), mode="nearest-exact"
                )
                masks[i, :, :height, :width] = classes[0]
        return [squares, masks] if self.masked else [squares]

    def apply(self, crops: Sequence[Tensor], parameters: tuple[()]) -> tuple[Tensor, ...]:
        """The images, float32 and normalised, and the masks as they are."""
        x, *masks = crops
        mean, std = torch.tensor((self.mean, self.std), device=x.device)[:, :, None, None]
        return x.float().div_(255).sub_(mean).div_(std), *masks
