"""Images with what is in them drawn over them."""

import colorsys

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.utils import draw_bounding_boxes

SIDE = 192  # pixels of a picture, at least
COVER = 0.5  # of a class's colour over the image


def boxed(x: Tensor, boxes: Tensor, names: list[str], labels: Tensor) -> Tensor:
    """An image (C, S, S) in [0, 1] with boxes (n, 4) of classes (n,) and their names: (3, L, L)."""
    picture = _large(x)
    if not len(boxes):
        return picture
    zoom = picture.shape[-1] / x.shape[-1]
    drawn = draw_bounding_boxes(
        (255 * picture).round().to(torch.uint8),
        boxes.cpu() * zoom,
        labels=names,
        colors=[_colour(label) for label in labels.tolist()],
        width=2,
    )
    return drawn.float() / 255


def coloured(x: Tensor, classes: Tensor) -> Tensor:
    """An image (C, S, S) in [0, 1] with the class of each pixel (S, S) as a colour: (3, L, L).

    The background, 0, is left as it is.
    """
    picture = _large(x)
    large = F.interpolate(classes[None, None].float(), picture.shape[1:], mode="nearest")[0, 0]
    for label in classes.unique().tolist():
        if label:
            colour = torch.tensor(_colour(label))[:, None, None] / 255
            picture = torch.where(large == label, (1 - COVER) * picture + COVER * colour, picture)
    return picture


def _large(x: Tensor) -> Tensor:
    """The same in colour, each pixel as many as it takes."""
    zoom = -(-SIDE // x.shape[-1])
    return x.cpu().expand(3, -1, -1).repeat_interleave(zoom, 1).repeat_interleave(zoom, 2)


def _colour(label: int) -> tuple[int, int, int]:
    """A colour of a class, far from those of the classes beside it."""
    red, green, blue = colorsys.hsv_to_rgb(0.618 * label % 1, 0.8, 1.0)
    return round(255 * red), round(255 * green), round(255 * blue)
