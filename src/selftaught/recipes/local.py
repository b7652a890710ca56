"""Recipes that compare parts of an image with one another or with the whole."""

import dataclasses

from selftaught.errors import UserError
from selftaught.methods.amdim import AMDIM
from selftaught.methods.cpc import CPC
from selftaught.methods.exemplar import Exemplar
from selftaught.nn.encoders import build
from selftaught.nn.local import PatchGrid
from selftaught.nn.scales import AmdimNano
from selftaught.recipes.run import Pixels, Run
from selftaught.recipes.shared import Look, Training, crop, view_side
from selftaught.views.exemplar import Contrast, Patch, PatchView
from selftaught.views.image import Jitter, View, Views
from selftaught.views.local import TurnedAlike


def cpc(
    data: Pixels,
    *,
    encoder: str = "resnet-nano",
    patch: int = 0,
    slack: int = 1,
    colour: bool = True,
    first: int = 2,
    rows: int = 5,
    width: int = 64,
    depth: int = 3,
    group: int = 16,
    smallest_crop: float = 0.5,
    training: Training = Training(lr=1e-3),
) -> Run:
    """CPC (van den Oord et al. 2018, arXiv 1807.03748): rows of patches foretell those below them.

    The encoder sees one patch at a time and its feature of an image is the mean over patches. It
    has layer norm instead of batch norm, which would tell patches of one another: the paper has no
    norm at all, its second version (arXiv 1905.09272) layer norm. The paper's ResNet ends after its
    third stage; a timm network is taken whole.

    Args:
        data: what the images look like.
        encoder: of a patch: resnet-nano, resnet-pico, vit-nano or any timm name.
        patch: side of a patch in pixels; 0 chooses about 7 x 7 patches that overlap by half.
        slack: pixels of a patch's side that are cut away at random and padded.
        colour: see the colours of images; without it, their mean over channels.
        first: how many rows below its context the nearest patch is that is predicted.
        rows: how many rows are predicted, from that one on.
        width: channels inside the context's convolutions.
        depth: steps of the context, each of which sees one row further up.
        group: images whose patches are told apart; a divisor of the batch.
        smallest_crop: the view shows at least this share of the image's area.
    """
    group = min(group, training.batch_size)
    if group > 0 and training.batch_size % group:
        raise UserError(
            f"a batch of {training.batch_size} images does not make groups of {group}; use --group "
            "with a divisor of --batch-size"
        )
    patch = patch or 2 * max(2, round(data.size / 8))
    channels = data.channels if colour else 1
    net = PatchGrid(
        build(encoder, channels=channels, size=patch),
        data.size,
        patch=patch,
        slack=slack,
        colour=colour,
    )
    method = CPC(
        net,
        first=first,
        rows=rows,
        width=width,
        depth=depth,
        group=group,
    )
    view = View(crop(data, data.size, smallest_crop))
    return training.run(method, Views([view], data.mean, data.std))


def amdim(
    data: Pixels,
    *,
    encoder: str = "amdim-nano",
    width: int = 32,
    dim: int = 256,
    blocks: int = 3,
    score_clip: float = 20.0,
    penalty: float = 5e-2,
    look: Look = Look(view_share=1.0, smallest_crop=0.3, jitter=0.4, gray=0.25),
    training: Training = Training(),
) -> Run:
    """AMDIM (Bachman et al. 2019, arXiv 1906.00910): a whole view finds the other view's parts.

    Both views are mirrored or neither is. Views are as large as the image, since the encoder's
    convolutions lead from that size to its scales and from no other.

    Args:
        data: what the images look like.
        encoder: amdim-nano; no other has local features of three scales.
        width: channels of the first convolution; local features have more.
        dim: width of the feature, in which scores are taken.
        blocks: residual convolutions at each resolution.
        score_clip: scores are softly clipped to this size.
        penalty: weight of the scores' mean square.
    """
    net = (
        AmdimNano(channels=data.channels, size=data.size, width=width, dim=dim, depth=blocks)
        if encoder == "amdim-nano"
        else build(encoder, channels=data.channels, size=data.size)
    )
    method = AMDIM(net, clip=score_clip, penalty=penalty)
    views = TurnedAlike([look.view(data, net)] * 2, data.mean, data.std)
    return training.run(method, views, beta1=0.8)


def exemplar(
    data: Pixels,
    *,
    encoder: str = "resnet-nano",
    classes: int = 2000,
    dropout: float = 0.0,
    view_share: float = 0.7,
    smallest_patch: float = 0.5,
    largest_patch: float = 1.0,
    contrast: float = 1.0,
    hue: float = 0.1,
    training: Training = Training(),
) -> Run:
    """Exemplar-CNN (Dosovitskiy et al. 2014, arXiv 1406.6909): a class for each image's patch.

    Trains on as many of the images as there are classes, evenly spread. An epoch is one
    transformation of each of their patches; the paper finds about a hundred to be enough.

    Args:
        data: what the images look like.
        encoder: resnet-nano, resnet-pico, vit-nano or any timm name; the paper's are plain.
        classes: images to train on, each a class, or all where there are less.
        dropout: share of the feature that the classifier does not see.
        view_share: side of a view as a share of the image's, where the encoder takes any size.
        smallest_patch: side of a patch as a share of the image's, at least.
        largest_patch: side of a patch as a share of the image's, at most.
        contrast: strength of the changes of contrast; 1 is the paper's.
        hue: largest change of the hue, in turns.
    """
    count = min(classes, data.count)
    if count < training.batch_size:
        raise UserError(
            f"{count} classes for a batch of {training.batch_size}; use --classes with as many "
            "or more, or a smaller --batch-size"
        )
    net = build(encoder, channels=data.channels, size=data.size)
    method = Exemplar(net, classes=count, dropout=dropout)
    share = (smallest_patch, largest_patch)
    patch = Patch(view_side(data, net, view_share), source=data.size, share=share)
    view = PatchView(patch, Contrast(contrast), Jitter(0.0, 0.0, 0.0, hue, p=1.0))
    run = training.run(method, Views([view], data.mean, data.std))
    return dataclasses.replace(run, images=count)
