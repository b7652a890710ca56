"""Recipes that predict every place of an image from something less of it."""

from selftaught.methods.colorization import Colorization
from selftaught.nn.colour import Lightness
from selftaught.nn.encoders import build
from selftaught.recipes.run import Pixels, Run
from selftaught.recipes.shared import Training
from selftaught.views.image import Crop, View, Views

ONCE = 2**62  # steps between two surveys, of which only the first comes


def colorization(
    data: Pixels,
    *,
    encoder: str = "resnet-nano",
    patch: int = 0,
    stride: int = 4,
    width: int = 64,
    grid: float = 10,
    sigma: float = 5,
    mix: float = 0.5,
    temperature: float = 0.38,
    smallest_crop: float = 0.5,
    training: Training = Training(),
) -> Run:
    """Colorization (Zhang et al. 2016, arXiv 1603.08511): from light and dark, tell the colours.

    Needs images in colour; the encoder that comes out is given colour images, too, and sees how
    light they are. All images are looked at once before the first step, to count their colours.

    Args:
        data: what the images look like.
        encoder: resnet-nano, vit-nano or any timm name that has a map of features.
        patch: side of a vision transformer's patch in pixels; 0 chooses about 7 x 7 patches.
        stride: colours are predicted at one pixel in so many, along each side.
        width: channels of the decoder before its last doubling.
        grid: side of a bin of colours in Lab.
        sigma: deviation of the Gaussian that spreads a colour over its nearest bins.
        mix: share of a uniform distribution in what rare colours are weighted by.
        temperature: of the mean of colours that pictures show; 1 is the plain mean.
        smallest_crop: the view shows at least this share of the image's area.
    """
    net = build(encoder, channels=1, size=data.size, patch=patch or None)
    method = Colorization(
        Lightness(net, data.mean, data.std),
        size=data.size,
        stride=stride,
        width=width,
        grid=grid,
        sigma=sigma,
        mix=mix,
        temperature=temperature,
    )
    view = View(Crop(data.size, scale=(smallest_crop, 1.0)))
    return training.run(method, Views([view], data.mean, data.std), survey_every=ONCE)
