"""Recipes that learn from a copy of the network itself."""

from dataclasses import asdict, dataclass, replace

from selftaught.errors import UserError
from selftaught.methods.byol import BYOL
from selftaught.methods.dino import DINO
from selftaught.methods.dinov2 import DINOv2
from selftaught.methods.ibot import IBOT
from selftaught.methods.simsiam import SimSiam
from selftaught.nn.base import Encoder
from selftaught.nn.encoders import build
from selftaught.recipes.run import Pixels, Run
from selftaught.recipes.shared import Look, MultiCrop, Training
from selftaught.views.image import Solarize, Views


@dataclass(frozen=True)
class Teacher:
    """A slow copy of the network, which scores what it sees against prototypes.

    Args:
        momentum: of the slow copy at the start; rises to 1 along a cosine.
        outputs: prototypes that a view or a patch may be like, a score of each.
        hidden: width of the head's hidden layers.
        bottleneck: width of what the prototypes are compared with.
        temperature: of the slow copy's scores; the smaller, the surer it is.
        start_temperature: of the slow copy's scores at the start.
        temperature_warmup: share of the run in which that temperature rises in a line.
        student_temperature: of the network's own scores.
        freeze: share of the run at whose beginning the prototypes stay as they are.
    """

    momentum: float = 0.99
    outputs: int = 1024
    hidden: int = 512
    bottleneck: int = 128
    temperature: float = 0.07
    start_temperature: float = 0.04
    temperature_warmup: float = 0.3
    student_temperature: float = 0.1
    freeze: float = 0.01


def byol(
    data: Pixels,
    *,
    encoder: str = "resnet-nano",
    momentum: float = 0.99,
    hidden: int = 1024,
    dim: int = 128,
    second_blur: float = 0.0,
    solarize: float = 0.0,
    look: Look = Look(),
    training: Training = Training(),
) -> Run:
    """BYOL (Grill et al. 2020, arXiv 2006.07733): predict a slow copy's view, no negatives.

    Args:
        data: what the images look like.
        encoder: resnet-nano, resnet-pico, vit-nano or any timm name.
        momentum: of the slow copy at the start; rises to 1 along a cosine.
        hidden: width of the projector's and the predictor's hidden layer.
        dim: width of what is predicted.
        second_blur: probability that the second view is blurred; blur is that of the first.
        solarize: probability that the second view is solarised.
    """
    method = BYOL(
        build(encoder, channels=data.channels, size=data.size),
        hidden=hidden,
        dim=dim,
        momentum=momentum,
    )
    views = look.pair(data, method.encoder, second_blur=second_blur, solarize=solarize)
    return training.run(method, views)


def simsiam(
    data: Pixels,
    *,
    encoder: str = "resnet-nano",
    hidden: int = 512,
    dim: int = 512,
    bottleneck: int = 128,
    look: Look = Look(),
    training: Training = Training(),
) -> Run:
    """SimSiam (Chen & He 2020, arXiv 2011.10566): predict the other view under a stop-gradient.

    Args:
        data: what the images look like.
        encoder: resnet-nano, resnet-pico, vit-nano or any timm name.
        hidden: width of the projector's hidden layers.
        dim: width of what is predicted.
        bottleneck: width of the predictor's hidden layer; its learning rate is held constant.
    """
    method = SimSiam(
        build(encoder, channels=data.channels, size=data.size),
        hidden=hidden,
        dim=dim,
        bottleneck=bottleneck,
    )
    views = look.views(data, method.encoder)
    return training.run(method, views, constant=[method.predictor])


@dataclass(frozen=True)
class Asymmetric(MultiCrop):
    """Multi-crop whose views are blurred and solarised unevenly (DINO's code, after BYOL's views).

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
        second_blur: probability that the second large view is blurred; without it, blur.
        small_blur: probability that a small view is blurred; without it, blur.
        solarize: probability that the second large view is solarised.
    """

    second_blur: float | None = None
    small_blur: float | None = None
    solarize: float = 0.0

    def views(self, data: Pixels, encoder: Encoder, count: int = 2, *then: Solarize) -> Views:
        """The large views, all but the first of one kind, then the small ones."""
        large, small = self._crops(data, encoder)
        second = self._blurred(self.second_blur)._view(
            large, *then, Solarize(threshold=0.5, p=self.solarize)
        )
        little = self._blurred(self.small_blur)._view(small, *then)
        views = [self._view(large, *then)] + [second] * (count - 1) + [little] * self.crops
        return Views(views, data.mean, data.std)

    def _blurred(self, blur: float | None) -> "Asymmetric":
        return self if blur is None else replace(self, blur=blur)


def dino(
    data: Pixels,
    *,
    encoder: str = "resnet-nano",
    patch: int = 0,
    head_norm: bool = True,
    learn_lengths: bool = False,
    centre_momentum: float = 0.9,
    teacher: Teacher = Teacher(),
    look: Asymmetric = Asymmetric(),
    training: Training = Training(clip=3.0),
) -> Run:
    """DINO (Caron et al. 2021, arXiv 2104.14294): match a slow copy's view of the whole image.

    The gradient is clipped as a whole, at the paper's scale tensor by tensor as the authors do.

    Args:
        data: what the images look like.
        encoder: resnet-nano, resnet-pico, vit-nano or any timm name.
        patch: side of a transformer's patch in pixels; 0 takes its own, or about 7 x 7 of them.
        head_norm: batch norm in the head; without it, short runs end in equal scores for all.
        learn_lengths: whether the prototypes' lengths are learned; else they are one.
        centre_momentum: of the running mean that is taken from the slow copy's scores.
    """
    method = DINO(
        build(encoder, channels=data.channels, size=data.size, patch=patch or None),
        head_norm=head_norm,
        learn_lengths=learn_lengths,
        centre_momentum=centre_momentum,
        **asdict(teacher),
    )
    return training.run(method, look.views(data, method.encoder))


def ibot(
    data: Pixels,
    *,
    encoder: str = "vit-nano",
    patch: int = 0,
    ratio: float = 0.3,
    head_norm: bool = True,
    shared: bool = True,
    patch_temperature: float = 0.07,
    centre_momentum: float = 0.9,
    teacher: Teacher = Teacher(),
    look: Asymmetric = Asymmetric(view_share=1.0),
    training: Training = Training(weight_decay=0.05, clip=3.0),
) -> Run:
    """iBOT (Zhou et al. 2021, arXiv 2111.07832): DINO, and the same for hidden patches.

    The gradient is clipped as a whole, at the paper's scale tensor by tensor as the authors do.

    Args:
        data: what the images look like.
        encoder: vit-nano, or a vision transformer of timm's (vit_*, deit*).
        patch: side of a patch in pixels; 0 takes its own, or about 7 x 7 of them.
        ratio: share of the patches that is hidden, of one of the two large views.
        head_norm: batch norm in the head; without it, short runs end in equal scores for all.
        shared: whether views and patches have one head.
        patch_temperature: of the slow copy's scores of patches.
        centre_momentum: of the running means that are taken from the slow copy's scores.
    """
    method = IBOT(
        build(encoder, channels=data.channels, size=data.size, patch=patch or None),
        ratio=ratio,
        head_norm=head_norm,
        shared=shared,
        patch_temperature=patch_temperature,
        centre_momentum=centre_momentum,
        **asdict(teacher),
    )
    views = look.views(data, method.student)
    hides_some(views, method.student.patch, ratio)
    return training.run(method, views)


def dinov2(
    data: Pixels,
    *,
    encoder: str = "vit-nano",
    patch: int = 0,
    ratio: float = 0.3,
    head_norm: bool = True,
    iterations: int = 3,
    koleo_weight: float = 0.03,
    teacher: Teacher = Teacher(temperature=0.04),
    look: Asymmetric = Asymmetric(view_share=1.0),
    training: Training = Training(weight_decay=0.05, clip=3.0),
) -> Run:
    """DINOv2 (Oquab et al. 2023, arXiv 2304.07193): iBOT with balanced targets and spread features.

    At small scale: of what the paper adds there are the two heads, Sinkhorn-Knopp, KoLeo and hidden
    patches; there are neither the curated data nor the high-resolution end of the run, and no
    stochastic depth, layer scale, SwiGLU, register tokens or learning rates by layer; the gradient
    is clipped as a whole, at the paper's scale part by part. Views are blurred as often as in DINO;
    the authors' code turns these probabilities around, so that its first view is never blurred.

    Args:
        data: what the images look like.
        encoder: vit-nano, or a vision transformer of timm's (vit_*, deit*).
        patch: side of a patch in pixels; 0 takes its own, or about 7 x 7 of them.
        ratio: share of the patches that is hidden, of one of the two large views.
        head_norm: batch norm in the heads; without it, short runs end in equal scores for all.
        iterations: of Sinkhorn-Knopp, which makes the prototypes equally used.
        koleo_weight: of the term that keeps each feature away from its nearest neighbour.
    """
    method = DINOv2(
        build(encoder, channels=data.channels, size=data.size, patch=patch or None),
        ratio=ratio,
        head_norm=head_norm,
        iterations=iterations,
        koleo_weight=koleo_weight,
        **asdict(teacher),
    )
    views = look.views(data, method.student)
    hides_some(views, method.student.patch, ratio)
    return training.run(method, views)


def hides_some(views: Views, patch: int, ratio: float) -> None:
    """Raises UserError where ``ratio`` of a large view's patches is none or all of them."""
    length = (views.views[0].size // patch) ** 2
    if not 0 < round(ratio * length) < length:
        raise UserError(
            f"a ratio of {ratio} of {length} patches hides nothing or leaves nothing; use --ratio "
            "0.3, smaller patches or a larger --view-share"
        )
