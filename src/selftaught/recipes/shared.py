"""What many recipes have in common: how long and how they train, and the views of images."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch

from selftaught.errors import UserError, from_zero
from selftaught.method import Method
from selftaught.nn.base import Encoder
from selftaught.nn.encoders import build, sees
from selftaught.nn.transformer import ViT
from selftaught.optim import LARC, LARS, Clip, Schedule, groups
from selftaught.recipes.run import Pixels, Run
from selftaught.views.image import Blur, Crop, Gray, Jitter, Solarize, View, Views

SMALLEST = 8  # pixels a side of a small view


@dataclass(frozen=True)
class Training:
    """How long a method is trained, and how its parameters move.

    Args:
        epochs: passes over the data, when no other budget is given.
        batch_size: images a step.
        optimizer: adamw, adam (decay in the gradient), sgd with a momentum of 0.9, lars or larc.
        lr: learning rate after the warm-up.
        bias_lr: factor of the learning rate of biases and norms.
        weight_decay: of weight matrices and kernels.
        last_decay: what the weight decay ends as, as a multiple of it; in between a cosine.
        decay_all: let biases and norms decay too.
        warmup: share of the run in which the learning rate rises.
        first_lr: where the warm-up begins, as a share of the learning rate.
        schedule: after the warm-up, cosine or constant.
        last_lr: where a cosine ends, as a share of the learning rate.
        drops: shares of the run, with commas, where a constant learning rate falls.
        drop: the factor by which it falls there.
        clip: bound of the gradient's norm; 0 is none.
        clip_by: what has that bound: the whole, each part of the method or each tensor.
    """

    epochs: float = 100
    batch_size: int = 256
    optimizer: Literal["adamw", "adam", "sgd", "lars", "larc"] = "adamw"
    lr: float = 2e-3
    bias_lr: float = 1.0
    weight_decay: float = 1e-2
    last_decay: float = 1.0
    decay_all: bool = False
    warmup: float = 0.1
    first_lr: float = 0.0
    schedule: Literal["cosine", "constant"] = "cosine"
    last_lr: float = 0.0
    drops: str = ""
    drop: float = 0.1
    clip: float = 0.0
    clip_by: Clip = "whole"

    def run(
        self,
        method: Method,
        views: Views,
        *,
        beta1: float = 0.9,
        beta2: float = 0.999,
        constant: Sequence[torch.nn.Module] = (),
        survey_every: int = 0,
    ) -> Run:
        """All that training needs. ``constant`` modules keep their learning rate throughout."""
        from_zero(lr=self.lr, weight_decay=self.weight_decay, last_decay=self.last_decay)
        from_zero(bias_lr=self.bias_lr, clip=0 if self.clip == math.inf else self.clip)
        found = groups(
            method,
            weight_decay=self.weight_decay,
            constant=constant,
            decay_all=self.decay_all,
            lr=self.lr,
            bias_lr=self.bias_lr,
        )
        if self.clip_by not in get_args(Clip):
            raise UserError(f"no {self.clip_by!r} to clip by; use whole, part or tensor")
        if self.last_decay != 1:
            for group in found:
                group["last_decay"] = self.last_decay
        optimizer: torch.optim.Optimizer
        # Not fused: on a processor PyTorch 2.14's takes moments in another memory format than the
        # parameter's, as a checkpoint brings them back, for those of other elements.
        if self.optimizer == "adamw":
            optimizer = torch.optim.AdamW(found, lr=self.lr, betas=(beta1, beta2))
        elif self.optimizer == "adam":
            optimizer = torch.optim.Adam(found, lr=self.lr, betas=(beta1, beta2))
        elif self.optimizer == "sgd":
            optimizer = torch.optim.SGD(found, lr=self.lr, momentum=0.9)
        elif self.optimizer == "lars":
            optimizer = LARS(found, lr=self.lr)
        elif self.optimizer == "larc":
            optimizer = LARC(found, lr=self.lr)
        else:
            raise UserError(
                f"no optimizer named {self.optimizer!r}; use adamw, adam, sgd, lars or larc"
            )
        return Run(
            method=method,
            views=views,
            optimizer=optimizer,
            batch_size=self.batch_size,
            epochs=self.epochs,
            schedule=self._schedule(),
            clip=self.clip or math.inf,
            clip_by=self.clip_by,
            survey_every=survey_every,
        )

    def _schedule(self) -> Schedule:
        if self.schedule not in ("cosine", "constant"):
            raise UserError(f"no schedule named {self.schedule!r}; use cosine or constant")
        cosine = self.schedule == "cosine"
        if cosine and self.drops:
            raise UserError("a cosine does not drop; use --schedule constant with --drops")
        try:
            drops = tuple(float(share) for share in self.drops.split(",") if share)
        except ValueError:
            raise UserError(
                f"--drops {self.drops} is not understood; use shares of the run, as 0.6,0.8"
            ) from None
        return Schedule(self.warmup, cosine, self.last_lr, drops, self.drop, self.first_lr)


#: For transformers that guess what is hidden: to them, many steps are worth more than large ones.
MASKED = Training(batch_size=64, lr=1e-3, weight_decay=0.05)


@dataclass(frozen=True)
class Look:
    """A random view of an image (Chen et al. 2020, arXiv 2002.05709, appendix A).

    Args:
        view_share: side of a view as a share of the image's, where the encoder takes any size.
        smallest_crop: a view shows at least this share of the image's area.
        jitter: strength of the change of brightness and contrast.
        saturation: strength of the change of saturation, as a share of jitter.
        hue: strength of the change of hue, as a share of jitter.
        jitter_share: probability that a view is changed so.
        gray: probability that a view of a colour image is gray.
        blur: probability that a view is blurred.
        bicubic: resize what is cropped bicubically, not bilinearly.
    """

    view_share: float = 0.7
    smallest_crop: float = 0.15
    jitter: float = 0.8
    saturation: float = 1.0
    hue: float = 0.25
    jitter_share: float = 0.8
    gray: float = 0.2
    blur: float = 0.0
    bicubic: bool = False

    def view(self, data: Pixels, encoder: Encoder, *then: Solarize) -> View:
        """One view: crop, flip, jitter, gray, blur and what is given besides."""
        pixels = view_side(data, encoder, self.view_share)
        cut = crop(data, pixels, self.smallest_crop, bicubic=self.bicubic)
        return self._view(cut, *then)

    def views(self, data: Pixels, encoder: Encoder, count: int = 2, *then: Solarize) -> Views:
        """``count`` views of one kind."""
        return Views([self.view(data, encoder, *then)] * count, data.mean, data.std)

    def pair(self, data: Pixels, encoder: Encoder, *, second_blur: float, solarize: float) -> Views:
        """Two views; the second has a blur of its own and may be solarised (BYOL, appendix B)."""
        other = replace(self, blur=second_blur)
        second = other.view(data, encoder, Solarize(threshold=0.5, p=solarize))
        return Views([self.view(data, encoder), second], data.mean, data.std)

    def _view(self, cut: Crop, *then: Solarize) -> View:
        strength = self.jitter
        return View(
            cut,
            Jitter(
                strength,
                strength,
                strength * self.saturation,
                min(strength * self.hue, 0.5),
                p=self.jitter_share,
            ),
            Gray(self.gray),
            Blur(p=self.blur, kernel=max(3, cut.size // 10 // 2 * 2 + 1)),
            *then,
        )


@dataclass(frozen=True)
class MultiCrop(Look):
    """Two views of most of the image, and small ones of a part of it (SwAV, arXiv 2006.09882).

    Args:
        view_share: side of a large view as a share of the image's, where any size serves.
        smallest_crop: a view shows at least this share of the image's area.
        jitter: strength of the change of brightness and contrast.
        saturation: strength of the change of saturation, as a share of jitter.
        hue: strength of the change of hue, as a share of jitter.
        jitter_share: probability that a view is changed so.
        gray: probability that a view of a colour image is gray.
        blur: probability that a view is blurred.
        crops: small views beside the two large ones.
        crop_share: side of a small view as a share of the image's.
        largest_crop: a small view shows at most this share of the image's area, a large one more.
        bicubic: resize what is cropped bicubically, not bilinearly.
    """

    smallest_crop: float = 0.1
    crops: int = 4
    crop_share: float = 0.5
    largest_crop: float = 0.4

    def views(self, data: Pixels, encoder: Encoder, count: int = 2, *then: Solarize) -> Views:
        """The large views, then the small ones."""
        of_most, of_a_part = self._crops(data, encoder)
        views = [self._view(of_most, *then)] * count + [self._view(of_a_part, *then)] * self.crops
        return Views(views, data.mean, data.std)

    def _crops(self, data: Pixels, encoder: Encoder) -> tuple[Crop, Crop]:
        """Of a large view and of a small one."""
        if self.crops < 0 or not 0 < self.smallest_crop < self.largest_crop < 1:
            raise UserError(
                f"{self.crops} small views of {self.smallest_crop} to {self.largest_crop} of the "
                "image; use --crops from 0 and --largest-crop above --smallest-crop"
            )
        if self.crops and data.size < SMALLEST:
            raise UserError(
                f"images of {data.size} pixels are smaller than a small view of {SMALLEST}; use "
                "--crops 0 or a larger --size"
            )
        large = view_side(data, encoder, self.view_share)
        small = view_side(data, encoder, self.crop_share, least=SMALLEST)
        part = (self.smallest_crop, self.largest_crop)
        return (
            crop(data, large, self.largest_crop, bicubic=self.bicubic),
            crop(data, small, *part, bicubic=self.bicubic),
        )


def crop(
    data: Pixels, side: int, smallest: float, largest: float = 1.0, *, bicubic: bool = False
) -> Crop:
    """A random crop of so many pixels a side, of a share of the image's area between the two.

    Half of the crops are mirrored where a mirror image means the same.
    """
    flip = 0.5 if data.flip else 0.0
    return Crop(side, scale=(smallest, largest), flip=flip, bicubic=bicubic)


def side(data: Pixels, encoder: Any, share: float, least: int = 16) -> int:
    """Pixels of a view's side, at least ``least`` where the image has as many.

    What a random crop shows is larger in its view than in the whole image that is seen later;
    views smaller than the image make up for that, and cost less (Touvron et al. 2019, Fixing the
    train-test resolution discrepancy, arXiv 1906.06423). For a transformer the side is a number of
    whole patches.
    """
    if not 0 < share <= 1:
        raise UserError(f"a view share of {share}; use a number above 0 and up to 1")
    if not encoder.any_size:
        return data.size
    wanted = max(round(data.size * share), min(data.size, least))
    patch = encoder.patch if isinstance(encoder, ViT) else 1
    return max(1, round(wanted / patch)) * patch


def view_side(data: Pixels, encoder: Encoder, share: float, least: int = 16) -> int:
    """What `side` says, or the image's side where the encoder cannot see views so small."""
    found = side(data, encoder, share, least)
    return found if found == data.size or sees(encoder, data.channels, found) else data.size


def for_tiles(method: str, encoder: str, data: Pixels) -> Encoder:
    """An encoder that is trained on tiles and used on whole images.

    Raises UserError for one that sees images of one side only.
    """
    net = build(encoder, channels=data.channels, size=data.size)
    if not net.any_size:
        raise UserError(
            f"{method} shows tiles, for which {encoder} is not made; use --encoder resnet-nano, "
            "vit-nano or a convolutional network of timm's"
        )
    return net


def check_tile(encoder: Encoder, data: Pixels, side: int) -> None:
    """Raises UserError where the encoder cannot see tiles of ``side`` pixels."""
    if not sees(encoder, data.channels, side):
        raise UserError(
            f"the encoder cannot see tiles of {side} pixels; use a larger --size, or --encoder "
            "resnet-nano or vit-nano"
        )
