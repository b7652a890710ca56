"""A detector with labels: what a learned encoder is transferred to."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.ops import MultiScaleRoIAlign

from selftaught.method import Method, ViewBatch
from selftaught.nn.noise import tossed
from selftaught.nn.pyramid import Coarser, Pyramid

SMALLEST = 16  # pixels: the side of the smallest anchor
SAMPLED = 128  # anchors of an image that the objective is taken on, and twice its proposals
PROPOSALS = 200  # of an image


class Detector(Method):
    """Faster R-CNN on the feature pyramid of an encoder, by torchvision.

    Ren et al. 2015, https://arxiv.org/abs/1506.01497, with the feature pyramid network of Lin et
    al. 2016. Smaller than torchvision's own, so that a processor can train it: narrower heads, and
    fewer anchors and proposals that are sampled. Anchors have three shapes; their sides run
    geometrically from ``SMALLEST`` to the image's.

    ``targets`` holds for each of the images that are trained on the ``boxes`` (n, 4), as left, top,
    right and bottom in pixels of the view, and the ``labels`` (n,) from 1 to ``classes``. While
    training, half of the images are mirrored where ``flip``.
    """

    knows_samples = True

    def __init__(
        self,
        encoder: nn.Module,
        *,
        channels: int,
        size: int,
        classes: int,
        targets: Sequence[dict[str, Tensor]] = (),
        width: int = 64,
        hidden: int = 256,
        flip: bool = True,
    ) -> None:
        super().__init__()
        pyramid = Pyramid(encoder, channels=channels, size=size, width=width)
        names = [str(k) for k in range(len(pyramid.strides))]
        pool = MultiScaleRoIAlign(names, 7, 1, canonical_scale=2 * SMALLEST, canonical_level=3)
        sampled = {"rpn_batch_size_per_image": SAMPLED, "box_batch_size_per_image": SAMPLED // 2}
        proposals = {
            f"rpn_{when}_nms_top_n_{part}": PROPOSALS
            for when in ("pre", "post")
            for part in ("train", "test")
        }
        options: dict[str, Any] = sampled | proposals
        self.network = FasterRCNN(
            Coarser(pyramid),
            min_size=size,
            max_size=size,
            image_mean=[0.0] * channels,  # views are normalised already
            image_std=[1.0] * channels,
            rpn_anchor_generator=anchors(len(names) + 1, size),
            box_roi_pool=pool,
            box_head=TwoMLPHead(49 * width, hidden),
            box_predictor=FastRCNNPredictor(hidden, classes + 1),
            box_score_thresh=0.01,
            _skip_resize=True,
            size_divisible=1,
            **options,
        )
        self.targets = list(targets)
        self.flip = 0.5 if flip else 0.0

    @property
    def encoder(self) -> nn.Module:  # pyright: ignore
        """The encoder that is trained on."""
        return self.network.backbone.pyramid.encoder  # pyright: ignore

    def forward(self, batch: ViewBatch) -> dict[str, Tensor]:
        """Torchvision's four: of proposals and of boxes, their classes and their places."""
        (x,) = batch.views
        mirrored = tossed(len(x)) < self.flip
        images, targets = [], []
        for image, i, flip in zip(x, batch.index.tolist(), mirrored.tolist(), strict=True):
            found = {name: value.to(x.device) for name, value in self.targets[i].items()}
            if flip:
                image, left = image.flip(2), image.shape[2] - found["boxes"][:, 2]
                right = image.shape[2] - found["boxes"][:, 0]
                top, bottom = found["boxes"][:, 1], found["boxes"][:, 3]
                found["boxes"] = torch.stack([left, top, right, bottom], dim=1)
            images.append(image)
            targets.append(found)
        return {
            name.removeprefix("loss_"): term for name, term in self.network(images, targets).items()
        }

    def detect(self, x: Tensor) -> list[dict[str, Tensor]]:
        """Of each image of x (B, C, S, S) its ``boxes`` (n, 4), ``labels`` and ``scores`` (n,)."""
        return self.network(list(x))


def anchors(levels: int, size: int) -> AnchorGenerator:
    """Anchors for levels of growing stride: at least one size an octave, and three shapes."""
    octaves = max(1.0, np.log2(size / SMALLEST))
    each = int(np.ceil((octaves + 1) / levels))
    sides = np.geomspace(SMALLEST, max(size, 2 * SMALLEST), levels * each).reshape(levels, each)
    return AnchorGenerator(
        tuple(tuple(map(float, row)) for row in sides), ((0.5, 1.0, 2.0),) * levels
    )
