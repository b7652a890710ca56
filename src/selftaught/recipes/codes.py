"""Recipes that make an image again from a code of it."""

from selftaught.methods.autoencoder import Autoencoder
from selftaught.nn.decoders import Decoder
from selftaught.nn.encoders import build
from selftaught.recipes.run import Pixels, Run
from selftaught.recipes.shared import Training
from selftaught.views.image import Centre, Crop, View, Views


def autoencoder(
    data: Pixels,
    *,
    encoder: str = "resnet-nano",
    dim: int = 64,
    width: int = 32,
    smallest_crop: float = 0.5,
    training: Training = Training(),
) -> Run:
    """Autoencoder (Hinton & Salakhutdinov 2006): make the image again from few numbers.

    Args:
        data: what the images look like.
        encoder: resnet-nano, vit-nano or any timm name.
        dim: numbers of the code.
        width: channels of the decoder's last layer but one; twice as many at each layer before it.
        smallest_crop: the view shows at least this share of the image's area; 1 shows it as it is.
    """
    net = build(encoder, channels=data.channels, size=data.size)
    method = Autoencoder(net, Decoder(dim, data.channels, data.size, width=width), dim=dim)
    return training.run(method, _views(data, smallest_crop))


def _views(data: Pixels, smallest_crop: float) -> Views:
    """One view: a crop that may be flipped, or the whole image as it is."""
    whole = smallest_crop == 1
    crop = Centre(data.size) if whole else Crop(data.size, scale=(smallest_crop, 1.0))
    return Views([View(crop)], data.mean, data.std)
