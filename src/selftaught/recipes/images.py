"""Recipes for photographs and other images."""

import torch

from selftaught.errors import UserError
from selftaught.method import Method
from selftaught.methods.byol import BYOL
from selftaught.methods.mae import MAE
from selftaught.methods.simclr import SimCLR
from selftaught.nn.encoders import build
from selftaught.optim import groups
from selftaught.recipes.run import Pixels, Run
from selftaught.views.image import Blur, Crop, Gray, Jitter, Solarize, View, Views


def simclr(
    data: Pixels,
    *,
    encoder: str = "resnet-nano",
    epochs: float = 100,
    batch_size: int = 256,
    lr: float = 2e-3,
    weight_decay: float = 1e-2,
    warmup: float = 0.1,
    temperature: float = 0.1,
    hidden: int = 512,
    dim: int = 128,
    view_share: float = 0.7,
    smallest_crop: float = 0.15,
    jitter: float = 0.8,
    gray: float = 0.2,
    blur: float = 0.0,
) -> Run:
    """SimCLR (Chen et al. 2020, arXiv 2002.05709): two views of an image against all other images.

    Args:
        data: what the images look like.
        encoder: resnet-nano, vit-nano or any timm name.
        epochs: passes over the data, when no other budget is given.
        batch_size: images a step; the others in the batch are the negatives.
        lr: AdamW's learning rate after the warm-up.
        weight_decay: of weight matrices and kernels.
        warmup: share of the run in which the learning rate rises.
        temperature: the smaller, the more the nearest negatives count.
        hidden: width of the projection head.
        dim: width of what is compared.
        view_share: side of a view as a share of the image's, where the encoder takes any size.
        smallest_crop: a view shows at least this share of the image's area.
        jitter: strength of the change of brightness, contrast, saturation (and a quarter, of hue).
        gray: probability that a view of a colour image is gray.
        blur: probability that a view is blurred.
    """
    method = SimCLR(
        build(encoder, channels=data.channels, size=data.size),
        hidden=hidden,
        dim=dim,
        temperature=temperature,
    )
    side = _side(data, method, view_share)
    view = View(*_strong(side, smallest_crop=smallest_crop, jitter=jitter, gray=gray, blur=blur))
    return Run(
        method=method,
        views=Views([view, view], data.mean, data.std),
        optimizer=_adamw(method, lr, weight_decay),
        batch_size=batch_size,
        epochs=epochs,
        warmup=warmup,
    )


def byol(
    data: Pixels,
    *,
    encoder: str = "resnet-nano",
    epochs: float = 100,
    batch_size: int = 256,
    lr: float = 2e-3,
    weight_decay: float = 1e-2,
    warmup: float = 0.1,
    momentum: float = 0.99,
    hidden: int = 1024,
    dim: int = 128,
    view_share: float = 0.7,
    smallest_crop: float = 0.15,
    jitter: float = 0.8,
    gray: float = 0.2,
    blur: float = 0.0,
    solarize: float = 0.0,
) -> Run:
    """BYOL (Grill et al. 2020, arXiv 2006.07733): predict a slow copy's view, no negatives.

    Args:
        data: what the images look like.
        encoder: resnet-nano, vit-nano or any timm name.
        epochs: passes over the data, when no other budget is given.
        batch_size: images a step.
        lr: AdamW's learning rate after the warm-up.
        weight_decay: of weight matrices and kernels.
        warmup: share of the run in which the learning rate rises.
        momentum: of the slow copy at the start; rises to 1 along a cosine.
        hidden: width of the projector's and the predictor's hidden layer.
        dim: width of what is predicted.
        view_share: side of a view as a share of the image's, where the encoder takes any size.
        smallest_crop: a view shows at least this share of the image's area.
        jitter: strength of the change of brightness, contrast, saturation (and a quarter, of hue).
        gray: probability that a view of a colour image is gray.
        blur: probability that a view is blurred.
        solarize: probability that the second view is solarised.
    """
    method = BYOL(
        build(encoder, channels=data.channels, size=data.size),
        hidden=hidden,
        dim=dim,
        momentum=momentum,
    )
    side = _side(data, method, view_share)
    ops = _strong(side, smallest_crop=smallest_crop, jitter=jitter, gray=gray, blur=blur)
    first, second = View(*ops), View(*ops, Solarize(threshold=0.5, p=solarize))
    return Run(
        method=method,
        views=Views([first, second], data.mean, data.std),
        optimizer=_adamw(method, lr, weight_decay),
        batch_size=batch_size,
        epochs=epochs,
        warmup=warmup,
    )


def mae(
    data: Pixels,
    *,
    encoder: str = "vit-nano",
    patch: int = 0,
    epochs: float = 100,
    batch_size: int = 256,
    lr: float = 2e-3,
    weight_decay: float = 0.05,
    warmup: float = 0.1,
    ratio: float = 0.75,
    dim: int = 128,
    depth: int = 2,
    heads: int = 4,
    normalize_target: bool = True,
    smallest_crop: float = 0.2,
) -> Run:
    """MAE (He et al. 2021, arXiv 2111.06377): see a quarter of the patches, paint the rest.

    Args:
        data: what the images look like.
        encoder: vit-nano, or a vision transformer of timm's (vit_*, deit*).
        patch: side of a patch in pixels; 0 chooses about 7 x 7 patches.
        epochs: passes over the data, when no other budget is given.
        batch_size: images a step.
        lr: AdamW's learning rate after the warm-up.
        weight_decay: of weight matrices and kernels.
        warmup: share of the run in which the learning rate rises.
        ratio: share of the patches that is hidden.
        dim: width of the decoder.
        depth: blocks of the decoder.
        heads: attention heads of the decoder.
        normalize_target: predict each patch less its mean and over its standard deviation.
        smallest_crop: the view shows at least this share of the image's area.
    """
    net = build(encoder, channels=data.channels, size=data.size, patch=patch or None)
    method = MAE(
        net, ratio=ratio, dim=dim, depth=depth, heads=heads, normalize_target=normalize_target
    )
    view = View(Crop(data.size, scale=(smallest_crop, 1.0)))
    return Run(
        method=method,
        views=Views([view], data.mean, data.std),
        optimizer=_adamw(method, lr, weight_decay, betas=(0.9, 0.95)),
        batch_size=batch_size,
        epochs=epochs,
        warmup=warmup,
    )


def _side(data: Pixels, method: Method, share: float) -> int:
    """Pixels of a view's side, at least 16 where the image has as many.

    What a random crop shows is larger in its view than in the whole image that is seen later;
    views smaller than the image make up for that, and cost less (Touvron et al. 2019, Fixing the
    train-test resolution discrepancy, arXiv 1906.06423).
    """
    if not 0 < share <= 1:
        raise UserError(f"a view share of {share}; use --view-share with a number up to 1")
    if not method.encoder.any_size:
        return data.size
    return max(round(data.size * share), min(data.size, 16))


def _strong(
    side: int, *, smallest_crop: float, jitter: float, gray: float, blur: float
) -> tuple[Crop, Jitter, Gray, Blur]:
    """SimCLR's view (appendix A): crop, flip, jitter, gray, blur of a tenth of the side."""
    return (
        Crop(side, scale=(smallest_crop, 1.0)),
        Jitter(jitter, jitter, jitter, min(jitter / 4, 0.5)),
        Gray(gray),
        Blur(p=blur, kernel=max(3, side // 10 // 2 * 2 + 1)),
    )


def _adamw(
    method: Method, lr: float, weight_decay: float, betas: tuple[float, float] = (0.9, 0.999)
) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups(method, weight_decay=weight_decay), lr=lr, betas=betas)
