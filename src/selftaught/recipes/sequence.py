"""Recipes that read an image as a sequence."""

from selftaught.methods.igpt import IGPT
from selftaught.nn.encoders import build
from selftaught.nn.pixels import PixelGPT
from selftaught.recipes.run import ONCE, Pixels, Run
from selftaught.recipes.shared import Training
from selftaught.views.image import Crop, View, Views

SIDE = 10  # of a small copy; 14 took 2.3 times as long for an image
GREYS, COLOURS = 16, 512  # of a palette, for images of one channel and of three


def igpt(
    data: Pixels,
    *,
    encoder: str = "gpt-nano",
    side: int = 0,
    palette: int = 0,
    dim: int = 128,
    depth: int = 6,
    heads: int = 2,
    layer: int = 3,
    smallest_crop: float = 0.5,
    training: Training = Training(),
) -> Run:
    """Image GPT (Chen et al. 2020): foretell each pixel from those before it.

    Deviation from the paper's settings: the view is a box of random area and shape, where theirs
    is a square of 224 pixels of an image whose shorter side is resized to 256 to 384.

    Args:
        data: what the images look like.
        encoder: gpt-nano, of the shape that follows; no other reads pixel by pixel.
        side: pixels a side of the small copy that is read; 0 takes 10, or all of smaller images.
        palette: colours that pixels may have; 0 takes 16 greys, or 512 of images in colour.
        dim: width of the transformer.
        depth: blocks of the transformer.
        heads: attention heads of the transformer.
        layer: features are what leaves this block; those above serve the training alone.
        smallest_crop: the view shows at least this share of the image's area.
    """
    net = (
        PixelGPT(
            channels=data.channels,
            size=data.size,
            side=side or min(data.size, SIDE),
            palette=palette or (GREYS if data.channels == 1 else COLOURS),
            dim=dim,
            heads=heads,
            depth=layer,
            total=depth,
        )
        if encoder == "gpt-nano"
        else build(encoder, channels=data.channels, size=data.size)
    )
    view = View(Crop(data.size, scale=(smallest_crop, 1.0), flip=0.0))
    views = Views([view], data.mean, data.std)
    return training.run(IGPT(net), views, beta2=0.95, survey_every=ONCE)
