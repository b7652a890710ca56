"""Protocols that need the images: heads trained on random views, and features of places."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from selftaught import seeds
from selftaught.commands.features import finite
from selftaught.commands.parts import Labelled, Seen
from selftaught.commands.scores import Score, mean_score, score_of
from selftaught.commands.settings import readers_for
from selftaught.data.batches import batches, placed, plain
from selftaught.data.images import Images
from selftaught.data.masks import Masks
from selftaught.data.sources import evenly
from selftaught.errors import UserError
from selftaught.pretrained import Pretrained, RawPixels
from selftaught.protocols import dense_knn as dense
from selftaught.protocols.convex import folds
from selftaught.protocols.sweep import linear_sgd
from selftaught.recipes.shared import Look
from selftaught.report.live import counted

SEED = 0
EPOCHS, STEPS = 10, 200  # of the heads, whichever is longer
BATCH = 128
SMALLEST_CROP = 0.6  # share of the image's area, as where a classifier is fine-tuned
SAMPLE = 2048  # images whose features say how the heads' are standardised
PLACED = 16  # images whose places are looked at at once
BANK = 100_000  # places at most that others are compared with


@torch.no_grad()
def pooled(net: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Features of the views x by each pooling, (B, D) float32.

    Where the network has features of places these are their mean, their maximum and the means of
    2 x 2 parts of the image, side by side; else its feature is the only one.
    """
    maps = _maps(net, x)
    if maps is None:
        return {"feature": finite(net(x).float())}
    found = {"mean": maps.mean((2, 3)), "max": maps.amax((2, 3))}
    if min(maps.shape[2:]) > 1:
        found["2x2"] = F.adaptive_avg_pool2d(maps, 2).flatten(1)
    return found


def _maps(net: nn.Module, x: Tensor) -> Tensor | None:
    """Features of places (B, D, H, W), where the network is an encoder that has them."""
    encoder = net.encoder if isinstance(net, Pretrained) else net
    if not hasattr(encoder, "maps"):
        return None
    try:
        found = encoder.maps(x).float()  # pyright: ignore
    except UserError:
        return None
    return finite(found)


def sweep(seen: Seen) -> dict[str, Score]:
    """The accuracy of ``linear_sgd``: a tenth of train is held out to choose the head.

    Deviations: a random view shows `SMALLEST_CROP` of the image's area or more, where the codes of
    MoCo and DINO take 0.08 or more.
    """
    train, device = seen.train, seen.device
    numbers = train.chosen.nonzero().squeeze(1)
    classes, y = train.values[numbers].unique(return_inverse=True)
    held = folds(y.numpy(), SEED, 10) == 0
    if len(classes) < 2 or not held.any():
        raise UserError(
            f"{len(y)} training labels of {len(classes)} classes; linear_sgd needs two classes, "
            "and one of them twice so that the head can be chosen on held-out samples"
        )
    fit, labels = train.images.take(numbers[~held]), y[~held]

    def views(found: Iterator[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        for index, x in found:
            x = placed(x, device)
            yield index, pooled(seen.net, x)

    def whole(images: Images) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
        return views(plain(images, seen.like.views, BATCH, readers_for(None, device)))

    look = Look(view_share=1.0, smallest_crop=SMALLEST_CROP, jitter=0.0, gray=0.0)
    random = look.views(seen.like.pixels, seen.like.encoder, count=1)  # pyright: ignore
    batch = min(BATCH, len(fit))
    steps = max(STEPS, EPOCHS * len(fit) // batch)
    of = {"start": 0, "stop": steps, "device": device, "readers": readers_for(None, device)}
    drawn = batches(fit, random, batch_size=batch, seed=SEED, **of)
    drawn = counted(drawn, seen.tell, "linear_sgd", steps)
    test_index = seen.test.chosen.nonzero().squeeze(1)
    truth: list[Tensor] = []

    def test() -> Iterator[dict[str, Tensor]]:
        for index, x in whole(seen.test.images.take(test_index)):
            truth.append(seen.test.values[test_index[index]])
            yield x

    some = [x for _, x in whole(fit.spread(SAMPLE))]
    if not some:
        raise UserError("no image of the train part can be read; check the files")
    found = linear_sgd(
        {name: torch.cat([x[name] for x in some]) for name in some[0]},
        ((x, labels[i].to(device)) for i, x in views((b.index, *b.views) for b, _ in drawn)),
        ((x, y[held][i].to(device)) for i, x in whole(train.images.take(numbers[held]))),
        test(),
        steps=steps,
        classes=len(classes),
    )
    score = mean_score(classes[found.predictions] == torch.cat(truth))
    return {"": score._replace(chosen=f"{found.head[0]}, lr {found.head[1]:g}")}


def segmentation(seen: Seen) -> dict[str, Score]:
    """The mean IoU of ``dense_knn``, at the resolution and in the square that the encoder sees."""
    classes = 1 + max(_last_class(seen.train), _last_class(seen.test))
    side = _side(seen)
    bank, labels = _bank(seen, classes, side)
    both, either, there = [], [], torch.zeros(classes, dtype=torch.bool)
    for x, truth in _with_masks(seen, seen.test):
        places = _places(seen.net, x, side)  # (B, side, side, D)
        soft = dense.dense_knn(bank, labels, places.flatten(0, 2))
        soft = soft.view(*places.shape[:3], classes).permute(0, 3, 1, 2)
        size = truth.shape[1:]
        guess = F.interpolate(soft, size=size, mode="bilinear", align_corners=False).argmax(1)
        for found, part in zip((both, either), dense.overlaps(guess, truth, classes), strict=True):
            found.append(part)
        there |= torch.bincount(truth[truth != dense.VOID].long(), minlength=classes) > 0
    if not there.any():
        raise UserError("no pixel of the test masks has a class; mask some")
    inside, union = torch.cat(both).double(), torch.cat(either).double()  # (N, classes)
    value = dense.mean_iou(inside.sum(0), union.sum(0), there)
    return {"": score_of(value.item(), dense.iou_interval(inside, union, there))}


def _last_class(part: Labelled) -> int:
    masks: Masks = part.values
    numbers = part.chosen.nonzero().squeeze(1).tolist()
    found = (masks.read(i) for i in numbers)
    return max((int(m[m != dense.VOID].max()) for m in found if (m != dense.VOID).any()), default=0)


def _bank(seen: Seen, classes: int, side: int) -> tuple[Tensor, Tensor]:
    """Features of places and their soft labels; of each image as many, drawn at random."""
    each = max(1, BANK // max(1, int(seen.train.chosen.sum())))
    g = seeds.generator(SEED, "places")
    x_found, y_found = [], []
    for x, masks in _with_masks(seen, seen.train):
        share, known = dense.soft_labels(masks, classes, side)
        places = _places(seen.net, x, side)
        for z, y, ok in zip(places, share, known, strict=True):
            index = ok.flatten().nonzero().squeeze(1)
            index = index[torch.randperm(len(index), generator=g)[:each]].sort().values
            x_found.append(z.flatten(0, 1)[index])
            y_found.append(y.flatten(0, 1)[index])
    return torch.cat(x_found), torch.cat(y_found)


def _with_masks(seen: Seen, part: Labelled) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of plain images and their masks (B, S, S) in the same square."""
    numbers = part.chosen.nonzero().squeeze(1)
    if len(numbers) > BANK:
        numbers = numbers[evenly(BANK, len(numbers))] if part is seen.train else numbers
    images, masks = part.images.take(numbers), part.values
    device = next(seen.like.parameters()).device
    found = plain(images, seen.like.views, PLACED)
    for index, x in counted(found, seen.tell, "places", len(images), each=PLACED):
        square = [_central(masks.read(int(numbers[i])), x.shape[-1]) for i in index]
        yield placed(x, device), torch.stack(square)


def _central(mask: Tensor, size: int) -> Tensor:
    """The central square of a mask (H, W) at ``size`` pixels: of each, the class at its centre."""
    side = min(mask.shape)
    top, left = (round((full - side) / 2) for full in mask.shape)
    place = ((torch.arange(size) + 0.5) * side / size).long()
    return mask[top : top + side, left : left + side][place][:, place]


@torch.no_grad()
def _side(seen: Seen) -> int:
    """Places a side of the encoder's map; those of raw pixels are as many."""
    pixels = seen.like.pixels
    x = torch.zeros(1, pixels.channels, pixels.size, pixels.size)
    maps = _maps(seen.like, x.to(next(seen.like.parameters()).device))
    if maps is None:
        raise UserError(
            "the encoder has no features of places, which dense_knn compares; evaluate one that "
            "has, such as resnet-nano or vit-nano"
        )
    return maps.shape[-1]


@torch.no_grad()
def _places(net: nn.Module, x: Tensor, side: int) -> Tensor:
    """Features of places (B, side, side, D) on the CPU; of raw pixels, those of each place."""
    if isinstance(net, RawPixels):
        patch = math.ceil(x.shape[-1] / side)
        image = net.image(x)
        image = F.interpolate(image, size=side * patch, mode="bilinear", align_corners=False)
        return F.unfold(image, patch, stride=patch).transpose(1, 2).unflatten(1, (side, side)).cpu()
    maps = _maps(net, x)
    assert maps is not None
    return maps.permute(0, 2, 3, 1).cpu()
