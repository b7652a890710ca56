"""Recipes that hide a part of the image and predict it.

Their learned tokens do not decay (`selftaught.optim.groups`); in the authors' codes they do.
"""

from dataclasses import replace

from selftaught.errors import UserError
from selftaught.methods.beit import BEiT
from selftaught.methods.mae import MAE
from selftaught.methods.maskfeat import MaskFeat
from selftaught.methods.simmim import SimMIM
from selftaught.methods.vqvae import VQVAE
from selftaught.nn.encoders import build, map_side, patch_for
from selftaught.nn.tokenizer import Tokenizer
from selftaught.recipes.run import Pixels, Run
from selftaught.recipes.shared import MASKED, Training, crop
from selftaught.views.image import Jitter, View, Views


def mae(
    data: Pixels,
    *,
    encoder: str = "vit-nano",
    patch: int = 0,
    ratio: float = 0.75,
    dim: int = 128,
    depth: int = 2,
    heads: int = 4,
    normalize_target: bool = True,
    smallest_crop: float = 0.2,
    bicubic: bool = False,
    training: Training = MASKED,
) -> Run:
    """MAE (He et al. 2021, arXiv 2111.06377): see a quarter of the patches, paint the rest.

    Args:
        data: what the images look like.
        encoder: vit-nano, or a vision transformer of timm's (vit_*, deit*).
        patch: side of a patch in pixels; 0 takes its own, or about 7 x 7 of them.
        ratio: share of the patches that is hidden.
        dim: width of the decoder.
        depth: blocks of the decoder.
        heads: attention heads of the decoder.
        normalize_target: predict each patch less its mean and over its standard deviation.
        smallest_crop: the view shows at least this share of the image's area.
        bicubic: resize what is cropped bicubically, not bilinearly.
    """
    net = build(encoder, channels=data.channels, size=data.size, patch=patch or None)
    method = MAE(
        net, ratio=ratio, dim=dim, depth=depth, heads=heads, normalize_target=normalize_target
    )
    view = View(crop(data, data.size, smallest_crop, bicubic=bicubic))
    return training.run(method, Views([view], data.mean, data.std), beta2=0.95)


def simmim(
    data: Pixels,
    *,
    encoder: str = "vit-nano",
    patch: int = 0,
    unit: int = 1,
    ratio: float = 0.6,
    smallest_crop: float = 0.2,
    training: Training = MASKED,
) -> Run:
    """SimMIM (Xie et al. 2021, arXiv 2111.09886): one linear layer paints what the encoder guesses.

    Args:
        data: what the images look like.
        encoder: vit-nano, or a vision transformer of timm's (vit_*, deit*).
        patch: side of a patch in pixels; 0 takes its own, or about 7 x 7 of them.
        unit: side of a hidden square in patches; a divisor of the patches a side.
        ratio: share of the squares that is hidden.
        smallest_crop: the view shows at least this share of the image's area.
    """
    net = build(encoder, channels=data.channels, size=data.size, patch=patch or None)
    method = SimMIM(net, ratio=ratio, unit=unit)
    view = View(crop(data, data.size, smallest_crop))
    return training.run(method, Views([view], data.mean, data.std))


def maskfeat(
    data: Pixels,
    *,
    encoder: str = "vit-nano",
    patch: int = 0,
    ratio: float = 0.4,
    smallest_block: int = 4,
    cells: int = 0,
    bins: int = 9,
    smallest_crop: float = 0.2,
    bicubic: bool = False,
    training: Training = MASKED,
) -> Run:
    """MaskFeat (Wei et al. 2021, arXiv 2112.09133): predict the edges of what is hidden.

    Args:
        data: what the images look like.
        encoder: vit-nano, or a vision transformer of timm's (vit_*, deit*).
        patch: side of a patch in pixels; 0 takes its own, or about 7 x 7 of them.
        ratio: share of the patches that is hidden.
        smallest_block: patches are hidden in blocks of at least this many.
        cells: histograms a side of a patch; 0 takes 2 where they tile it, else 1.
        bins: directions that a histogram tells apart.
        smallest_crop: the view shows at least this share of the image's area.
        bicubic: resize what is cropped bicubically, not bilinearly.
    """
    net = build(encoder, channels=data.channels, size=data.size, patch=patch or None)
    cells = cells or (1 if getattr(net, "patch", 2) % 2 else 2)
    method = MaskFeat(net, ratio=ratio, smallest=smallest_block, cells=cells, bins=bins)
    view = View(crop(data, data.size, smallest_crop, bicubic=bicubic))
    return training.run(method, Views([view], data.mean, data.std))


def beit(
    data: Pixels,
    *,
    tokenizer: str = "",
    encoder: str = "vit-nano",
    patch: int = 0,
    ratio: float = 0.4,
    smallest_block: int = 4,
    smallest_crop: float = 0.2,
    bicubic: bool = False,
    jitter: float = 0.0,
    training: Training = MASKED,
) -> Run:
    """BEiT (Bao et al. 2021, arXiv 2106.08254): name the words of what is hidden.

    Args:
        data: what the images look like.
        tokenizer: folder of a vqvae run on images of the same size, with a word for each patch.
        encoder: vit-nano, or a vision transformer of timm's (vit_*, deit*).
        patch: side of a patch in pixels; 0 takes the tokenizer's stride.
        ratio: share of the patches that is hidden.
        smallest_block: patches are hidden in blocks of at least this many.
        smallest_crop: the view shows at least this share of the image's area.
        bicubic: resize what is cropped bicubically, not bilinearly.
        jitter: strength of the change of brightness, contrast and saturation.
    """
    codes, grid = _tokenizer(tokenizer, data)
    fits = data.size // grid if data.size % grid == 0 else 0
    patch = patch or fits or patch_for(data.size)
    net = build(encoder, channels=data.channels, size=data.size, patch=patch)
    if getattr(net, "grid", grid) != grid:
        raise UserError(
            f"{tokenizer} has {grid} x {grid} words for images that have {data.size // patch} x "
            f"{data.size // patch} patches; use a vqvae run of --stride {patch}, with --encoder "
            "vit-nano if that is not 1, 2, 4 or 8"
        )
    words = len(codes.codes.codebook.vectors)
    method = BEiT(net, codes, words=words, ratio=ratio, smallest=smallest_block)
    colours = [Jitter(jitter, jitter, jitter, 0.0, p=1.0)] if jitter else []
    view = View(crop(data, data.size, smallest_crop, bicubic=bicubic), *colours)
    run = training.run(method, Views([view], data.mean, data.std))
    return replace(run, architecture={"name": encoder, "patch": patch})


def _tokenizer(run: str, data: Pixels) -> tuple[Tokenizer, int]:
    """The tokenizer of a run, and how many words a side it has for an image."""
    from selftaught.pretrained import method_of

    if not run:
        raise UserError(
            "beit names the words of a tokenizer: train one with `selftaught pretrain vqvae` and "
            "give its folder as --tokenizer (of compare and doctor --set tokenizer=RUN)"
        )
    method, seen, name = method_of(run)
    if not isinstance(method, VQVAE):
        raise UserError(f"{run} is a run of {name}; give --tokenizer a run of vqvae")
    if (seen.channels, seen.size) != (data.channels, data.size):
        raise UserError(
            f"{run} sees {seen.channels} x {seen.size} pixels and the images have {data.channels} "
            f"x {data.size}; give --tokenizer a run on images like these"
        )
    grid = map_side(method.encoder, data.channels, data.size)
    return Tokenizer(method, (seen.mean, seen.std), (data.mean, data.std)), grid
