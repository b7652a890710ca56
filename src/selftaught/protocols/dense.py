"""How good detections and segmentations are, by torchmetrics and pycocotools."""

from collections.abc import Iterable, Sequence
from importlib.util import find_spec

from torch import Tensor

from selftaught.errors import UserError

EXTRA = ("pycocotools", "torchmetrics")


def require_extra() -> None:
    """Raises UserError where the libraries of this module are not installed."""
    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        raise UserError(
            f"{' and '.join(missing)} not installed; run: pip install 'selftaught[detection]'"
        )


def average_precision(
    found: Sequence[dict[str, Tensor]], true: Sequence[dict[str, Tensor]]
) -> dict[str, float]:
    """COCO's box AP in percent: over IoU of 0.50 to 0.95, at 0.50 and at 0.75.

    Lin et al. 2014, https://arxiv.org/abs/1405.0312, with up to 100 boxes an image. ``found`` has
    for each image ``boxes`` (n, 4) as left, top, right, bottom, ``labels`` and ``scores`` (n,);
    ``true`` has ``boxes``, ``labels``, ``area``, and ``iscrowd`` for what is not asked for. Classes
    that no true box has do not count.
    """
    from torchmetrics.detection import MeanAveragePrecision

    metric = MeanAveragePrecision(box_format="xyxy", iou_type="bbox")
    metric.update(list(found), list(true))
    said = metric.compute()
    names = {"AP": "map", "AP50": "map_50", "AP75": "map_75"}
    return {name: 100 * max(0.0, float(said[key])) for name, key in names.items()}


def mean_iou(pairs: Iterable[tuple[Tensor, Tensor]], classes: int, void: int) -> dict[str, float]:
    """Mean intersection over union in percent, background included.

    Everingham et al. 2010, section 4.2 (the VOC challenge's measure): over the pixels of all images
    together. ``pairs`` are the predicted and the true classes (H, W) of each image, below
    ``classes``; true pixels of ``void`` are left out. The mean is over classes that occur, truly or
    predicted.
    """
    from torchmetrics.classification import MulticlassJaccardIndex

    metric = MulticlassJaccardIndex(classes, ignore_index=void)
    for predicted, true in pairs:
        metric.update(predicted.long(), true.long())
    return {"mIoU": 100 * float(metric.compute())}
