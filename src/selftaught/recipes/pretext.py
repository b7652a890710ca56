"""Recipes that do something to an image and ask what it was."""

from selftaught.methods.rotation import Rotation
from selftaught.nn.encoders import build
from selftaught.recipes.run import Pixels, Run
from selftaught.recipes.shared import Training, side
from selftaught.views.image import Crop, View
from selftaught.views.rotate import Turned


def rotation(
    data: Pixels,
    *,
    encoder: str = "resnet-nano",
    view_share: float = 0.7,
    smallest_crop: float = 0.3,
    training: Training = Training(),
) -> Run:
    """Rotation (Gidaris et al. 2018, arXiv 1803.07728): which way up is the image?

    Each image is seen in all four rotations at each step, so that a step costs twice that of a
    method with two views.

    Args:
        data: what the images look like.
        encoder: resnet-nano, vit-nano or any timm name; the paper's are AlexNet and a plain NIN.
        view_share: side of a view as a share of the image's, where the encoder takes any size.
        smallest_crop: the view shows at least this share of the image's area.
    """
    net = build(encoder, channels=data.channels, size=data.size)
    view = View(Crop(side(data, net, view_share), scale=(smallest_crop, 1.0)))
    return training.run(Rotation(net), Turned(view, data.mean, data.std))
