"""Recipes that predict a slow copy's representations of hidden parts.

Their learned tokens do not decay (`selftaught.optim.groups`); in the authors' codes they do.
"""

from dataclasses import replace
from functools import partial

from selftaught.errors import UserError
from selftaught.methods.data2vec import Data2Vec
from selftaught.methods.ijepa import IJEPA
from selftaught.nn.encoders import build
from selftaught.nn.masking import image_blocks
from selftaught.recipes.run import Pixels, Run
from selftaught.recipes.shared import MASKED, Training, crop
from selftaught.views.image import Crop, Jitter, View, Views


def data2vec(
    data: Pixels,
    *,
    encoder: str = "vit-nano",
    patch: int = 0,
    ratio: float = 0.6,
    smallest_block: int = 4,
    masks: int = 1,
    top: int = 3,
    beta: float = 2.0,
    momentum: float = 0.99,
    final_momentum: float = 0.999,
    ramp: float = 0.5,
    smallest_crop: float = 0.2,
    bicubic: bool = False,
    jitter: float = 0.4,
    training: Training = MASKED,
) -> Run:
    """data2vec (Baevski et al. 2022, arXiv 2202.03555): predict a slow copy's tokens.

    Args:
        data: what the images look like.
        encoder: vit-nano, or a vision transformer of timm's (vit_*, deit*).
        patch: side of a patch in pixels; 0 takes its own, or about 7 x 7 of them.
        ratio: share of the patches that is hidden.
        smallest_block: patches are hidden in blocks of at least this many.
        masks: ways in which each image is hidden in a step.
        top: blocks of the slow copy whose outputs are averaged, counted from the last.
        beta: distance up to which the error is squared; 0 squares all.
        momentum: of the slow copy at the start.
        final_momentum: of the slow copy after the ramp.
        ramp: share of the run in which the momentum rises.
        smallest_crop: the view shows at least this share of the image's area.
        bicubic: resize what is cropped bicubically, not bilinearly.
        jitter: strength of the change of brightness, contrast and saturation.
    """
    net = build(encoder, channels=data.channels, size=data.size, patch=patch or None)
    method = Data2Vec(
        net,
        mask=partial(image_blocks, ratio=ratio, smallest=smallest_block),
        masks=masks,
        top=top,
        beta=beta,
        momentum=momentum,
        final_momentum=final_momentum,
        ramp=ramp,
    )
    length = method.encoder.length
    if not 0 < round(ratio * length) < length:
        raise UserError(
            f"a ratio of {ratio} of {length} patches hides nothing or leaves nothing; "
            "use --ratio 0.6 or smaller patches"
        )
    view = View(
        crop(data, data.size, smallest_crop, bicubic=bicubic),
        Jitter(jitter, jitter, jitter, 0.0, p=1.0),
    )
    return training.run(method, Views([view], data.mean, data.std))


def ijepa(
    data: Pixels,
    *,
    encoder: str = "vit-nano",
    patch: int = 0,
    dim: int = 96,
    depth: int = 2,
    heads: int = 4,
    targets: int = 2,
    smallest_target: float = 0.25,
    largest_target: float = 0.35,
    smallest_context: float = 0.85,
    least: int = 10,
    momentum: float = 0.99,
    smallest_crop: float = 0.3,
    training: Training = replace(MASKED, lr=2e-4),
) -> Run:
    """I-JEPA (Assran et al. 2023, arXiv 2301.08243): predict tokens of blocks from a context.

    Args:
        data: what the images look like.
        encoder: vit-nano, or a vision transformer of timm's (vit_*, deit*).
        patch: side of a patch in pixels; 0 takes its own, or about 7 x 7 of them.
        dim: width of the predictor.
        depth: blocks of the predictor.
        heads: attention heads of the predictor.
        targets: blocks of an image that are predicted.
        smallest_target: share of the image that a target covers, at least.
        largest_target: share of the image that a target covers, at most.
        smallest_context: share of the image that the context covers before the targets are cut out.
        least: the context keeps more patches than this.
        momentum: of the slow copy at the start; rises to 1 in a line.
        smallest_crop: the view shows at least this share of the image's area.
    """
    method = IJEPA(
        build(encoder, channels=data.channels, size=data.size, patch=patch or None),
        dim=dim,
        depth=depth,
        heads=heads,
        targets=targets,
        scale=(smallest_target, largest_target),
        context=(smallest_context, 1.0),
        least=least,
        momentum=momentum,
    )
    view = View(Crop(data.size, scale=(smallest_crop, 1.0), flip=0.0))
    return training.run(method, Views([view], data.mean, data.std))
