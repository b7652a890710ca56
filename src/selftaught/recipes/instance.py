"""Recipes that tell every image from every other."""

from dataclasses import replace

from selftaught.errors import UserError
from selftaught.methods.instdisc import InstDisc
from selftaught.methods.moco import MoCo
from selftaught.methods.moco_v3 import MoCoV3
from selftaught.methods.nnclr import NNCLR
from selftaught.methods.pirl import PIRL
from selftaught.methods.simclr import SimCLR
from selftaught.methods.simclr_v2 import SimCLRV2
from selftaught.nn.encoders import build
from selftaught.recipes.run import Pixels, Run
from selftaught.recipes.shared import SMALLEST, Look, Training, check_tile, for_tiles, side
from selftaught.views.jigsaw import Jigsaw, WithTiles


def simclr(
    data: Pixels,
    *,
    encoder: str = "resnet-nano",
    temperature: float = 0.1,
    hidden: int = 512,
    dim: int = 128,
    look: Look = Look(),
    training: Training = Training(),
) -> Run:
    """SimCLR (Chen et al. 2020, arXiv 2002.05709): two views of an image against all other images.

    Args:
        data: what the images look like.
        encoder: resnet-nano, resnet-pico, vit-nano or any timm name.
        temperature: the smaller, the more the nearest negatives count.
        hidden: width of the projection head.
        dim: width of what is compared.
    """
    method = SimCLR(
        build(encoder, channels=data.channels, size=data.size),
        hidden=hidden,
        dim=dim,
        temperature=temperature,
    )
    return training.run(method, look.views(data, method.encoder))


def moco(
    data: Pixels,
    *,
    encoder: str = "resnet-nano",
    dim: int = 128,
    queue: int = 4096,
    momentum: float = 0.99,
    temperature: float = 0.1,
    groups: int = 8,
    look: Look = Look(),
    training: Training = Training(),
) -> Run:
    """MoCo (He et al. 2019, arXiv 1911.05722): find your own key among a queue of past keys.

    Args:
        data: what the images look like.
        encoder: resnet-nano, resnet-pico, vit-nano or any timm name.
        dim: width of what is compared.
        queue: keys that are remembered, the negatives.
        momentum: of the slow copy that makes the keys.
        temperature: the smaller, the more the nearest negatives count.
        groups: parts of the batch with a batch norm of their own; keys are shuffled over them.
    """
    _check_groups(groups, training.batch_size)
    method = MoCo(
        build(encoder, channels=data.channels, size=data.size),
        dim=dim,
        queue=_remembered(queue, data),
        momentum=momentum,
        temperature=temperature,
        groups=groups,
    )
    return training.run(method, look.views(data, method.encoder))


def moco_v2(
    data: Pixels,
    *,
    encoder: str = "resnet-nano",
    hidden: int = 512,
    dim: int = 128,
    queue: int = 4096,
    momentum: float = 0.99,
    temperature: float = 0.1,
    groups: int = 8,
    look: Look = Look(),
    training: Training = Training(),
) -> Run:
    """MoCo v2 (Chen et al. 2020, arXiv 2003.04297): MoCo with a projection head and blurred views.

    Args:
        data: what the images look like.
        encoder: resnet-nano, resnet-pico, vit-nano or any timm name.
        hidden: width of the projection head.
        dim: width of what is compared.
        queue: keys that are remembered, the negatives.
        momentum: of the slow copy that makes the keys.
        temperature: the smaller, the more the nearest negatives count.
        groups: parts of the batch with a batch norm of their own; keys are shuffled over them.
    """
    _check_groups(groups, training.batch_size)
    method = MoCo(
        build(encoder, channels=data.channels, size=data.size),
        hidden=hidden,
        dim=dim,
        queue=_remembered(queue, data),
        momentum=momentum,
        temperature=temperature,
        groups=groups,
    )
    return training.run(method, look.views(data, method.encoder))


def nnclr(
    data: Pixels,
    *,
    encoder: str = "resnet-nano",
    hidden: int = 512,
    dim: int = 128,
    predictor_hidden: int = 512,
    queue: int = 4096,
    temperature: float = 0.1,
    look: Look = Look(),
    training: Training = Training(),
) -> Run:
    """NNCLR (Dwibedi et al. 2021, arXiv 2104.14548): your nearest past neighbour is your positive.

    Args:
        data: what the images look like.
        encoder: resnet-nano, resnet-pico, vit-nano or any timm name.
        hidden: width of the projection head's hidden layers.
        dim: width of what is compared.
        predictor_hidden: width of the predictor's hidden layer.
        queue: past projections among which neighbours are looked for.
        temperature: the smaller, the more the nearest negatives count.
    """
    method = NNCLR(
        build(encoder, channels=data.channels, size=data.size),
        hidden=hidden,
        dim=dim,
        predictor_hidden=predictor_hidden,
        queue=_remembered(queue, data),
        temperature=temperature,
    )
    return training.run(method, look.views(data, method.encoder))


def moco_v3(
    data: Pixels,
    *,
    encoder: str = "resnet-nano",
    hidden: int = 512,
    dim: int = 128,
    momentum: float = 0.99,
    temperature: float = 0.2,
    freeze_patches: bool = True,
    second_blur: float = 0.0,
    solarize: float = 0.0,
    look: Look = Look(),
    training: Training = Training(),
) -> Run:
    """MoCo v3 (Chen et al. 2021, arXiv 2104.02057): find your own key among the batch's.

    Args:
        data: what the images look like.
        encoder: resnet-nano, resnet-pico, vit-nano or any timm name.
        hidden: width of the hidden layers of the projection head and the predictor.
        dim: width of what is compared.
        momentum: of the slow copy at the start; rises to 1 along a cosine.
        temperature: the smaller, the more the nearest negatives count.
        freeze_patches: keep a vision transformer's projection of patches random.
        second_blur: probability that the second view is blurred; blur is that of the first.
        solarize: probability that the second view is solarised.
    """
    method = MoCoV3(
        build(encoder, channels=data.channels, size=data.size),
        hidden=hidden,
        dim=dim,
        momentum=momentum,
        temperature=temperature,
        freeze_patches=freeze_patches,
    )
    views = look.pair(data, method.encoder, second_blur=second_blur, solarize=solarize)
    return training.run(method, views)


def simclr_v2(
    data: Pixels,
    *,
    encoder: str = "resnet-nano",
    layers: int = 3,
    dim: int = 128,
    temperature: float = 0.1,
    queue: int = 0,
    momentum: float = 0.99,
    look: Look = Look(),
    training: Training = Training(),
) -> Run:
    """SimCLR v2 (Chen et al. 2020, arXiv 2006.10029): SimCLR with a deeper head that partly stays.

    Args:
        data: what the images look like.
        encoder: resnet-nano, resnet-pico, vit-nano or any timm name; larger ones need fewer labels.
        layers: of the projection head; at the paper's scale fine-tuning keeps the first.
        dim: width of what is compared.
        temperature: the smaller, the more the nearest negatives count.
        queue: past projections that are negatives too; 0 is none.
        momentum: of the slow copy that makes the queue.
    """
    method = SimCLRV2(
        build(encoder, channels=data.channels, size=data.size),
        layers=layers,
        dim=dim,
        temperature=temperature,
        queue=_remembered(queue, data),
        momentum=momentum,
    )
    return training.run(method, look.views(data, method.encoder))


def instdisc(
    data: Pixels,
    *,
    encoder: str = "resnet-nano",
    instances: int = 12000,
    dim: int = 128,
    temperature: float = 0.1,
    noise: int = 4096,
    momentum: float = 0.5,
    proximal: float = 30.0,
    look: Look = Look(),
    training: Training = Training(lr=2e-4),
) -> Run:
    """InstDisc (Wu et al. 2018, arXiv 1805.01978): each image is a class of its own.

    Args:
        data: what the images look like.
        encoder: resnet-nano, resnet-pico, vit-nano or any timm name.
        instances: images to train on, evenly spread; 0 is all. The fewer, the fresher their memory.
        dim: width of what is compared and remembered of each image.
        temperature: the smaller, the more the most similar images count.
        noise: images that each is told from, drawn at random; 0 is all of them.
        momentum: share of what is remembered of an image that stays when it is seen again.
        proximal: weight of the distance between an image's feature and what is remembered of it.
    """
    count = _instances(instances, data)
    _check_drawn("--noise", noise, count)
    method = InstDisc(
        build(encoder, channels=data.channels, size=data.size),
        count=count,
        dim=dim,
        temperature=temperature,
        noise=noise,
        momentum=momentum,
        proximal=proximal,
    )
    run = training.run(method, look.views(data, method.encoder, count=1))
    return replace(run, images=count)


def pirl(
    data: Pixels,
    *,
    encoder: str = "resnet-nano",
    instances: int = 12000,
    dim: int = 128,
    temperature: float = 0.5,
    negatives: int = 4096,
    momentum: float = 0.5,
    mix: float = 0.5,
    tile_share: float = 0.29,
    smallest_jigsaw: float = 0.6,
    look: Look = Look(),
    training: Training = Training(lr=2e-4),
) -> Run:
    """PIRL (Misra & van der Maaten 2019, arXiv 1912.01991): an image is known by its jigsaw.

    Args:
        data: what the images look like.
        encoder: resnet-nano, resnet-pico, vit-nano or a timm name whose images may be of any size.
        instances: images to train on, evenly spread; 0 is all. The fewer, the fresher their memory.
        dim: width of what is compared and remembered of each image.
        temperature: the smaller, the more the most similar images count.
        negatives: images that each is told from, drawn at random.
        momentum: share of what is remembered of an image that stays when it is seen again.
        mix: share of the jigsaw's term; the image's has the rest.
        tile_share: side of a tile as a share of the image's.
        smallest_jigsaw: the jigsaw shows at least this share of the image's area.
    """
    net = for_tiles("pirl", encoder, data)
    count = _instances(instances, data)
    _check_drawn("--negatives", negatives, count)
    method = PIRL(
        net,
        count=count,
        dim=dim,
        temperature=temperature,
        negatives=negatives,
        momentum=momentum,
        mix=mix,
    )
    image = look.view(data, net)
    tile = side(data, net, tile_share, least=SMALLEST)
    check_tile(net, data, tile)
    cell = round(tile * 85 / 64)  # the paper's
    jigsaw = Jigsaw(tile, cell, *image.then, scale=(smallest_jigsaw, 1.0), flip=image.cropper.flip)
    run = training.run(method, WithTiles(image, jigsaw, data.mean, data.std))
    return replace(run, images=count)


def _instances(asked: int, data: Pixels) -> int:
    """How many of the images are trained on."""
    if asked < 0:
        raise UserError(f"{asked} instances; use --instances with 0, for all images, or more")
    return min(asked or data.count, data.count)


def _check_drawn(option: str, asked: int, count: int) -> None:
    """Raises UserError where more images are drawn than there are."""
    if asked > count:
        raise UserError(
            f"{option} {asked} of {count} images draws each of them more than once; use "
            f"{max(1, count // 2)} or less"
        )


def _check_groups(groups: int, batch_size: int) -> None:
    """Raises UserError for groups of one image: its batch norm is of that image alone."""
    if batch_size < 2 * groups:
        raise UserError(
            f"a batch of {batch_size} in {groups} groups has batch norm over single images; use "
            f"--groups {max(1, batch_size // 2)} or less, or a larger --batch-size"
        )


def _remembered(queue: int, data: Pixels) -> int:
    """The length of a queue. Raises UserError where images would meet themselves in it."""
    if queue > data.count:
        raise UserError(
            f"a queue of {queue} of {data.count} images holds each of them more than once; use "
            f"--queue {max(1, data.count // 2)} or less"
        )
    return queue
