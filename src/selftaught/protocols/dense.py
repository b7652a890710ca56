"""How good detections and segmentations are, by pycocotools and torchmetrics."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from selftaught import seeds
from selftaught.errors import UserError
from selftaught.protocols.dense_knn import iou_interval, overlaps

EXTRA = ("pycocotools", "torchmetrics")
RESAMPLES = 200  # of test sets, for the intervals of AP

NAMES = ("AP", "AP50", "AP75")
Interval = tuple[float, float, float]  #: a value, and the ends of its interval


def require_extra() -> None:
    """Raises UserError where the libraries of this module are not installed."""
    missing = [name for name in EXTRA if find_spec(name) is None]
    if missing:
        raise UserError(
            f"{' and '.join(missing)} not installed; run: pip install 'selftaught[detection]'"
        )


def average_precision(
    found: Sequence[dict[str, Tensor]], true: Sequence[dict[str, Tensor]], *, seed: int = 0
) -> dict[str, Interval]:
    """COCO's box AP over IoU of 0.50 to 0.95, at 0.50 and at 0.75: (value, low, high), 0 to 1.

    Lin et al. 2014, https://arxiv.org/abs/1405.0312, with up to 100 boxes an image. ``found`` has
    for each image ``boxes`` (n, 4) as left, top, right, bottom, ``labels`` and ``scores`` (n,);
    ``true`` has ``boxes``, ``labels``, ``area``, and ``iscrowd`` for what is not asked for. Classes
    that no true box has do not count. The interval is that of 95 % over test sets of as many
    images, drawn with replacement.
    """
    asked = _compared(found, true)
    with _silence():
        asked.accumulate()
    precision = asked.eval["precision"][:, :, :, 0, 0]  # (10 IoUs, 101 recalls, K)
    known = precision[..., (precision > -1).all((0, 1))]
    if not known.size:
        return dict.fromkeys(NAMES, (0.0, 0.0, 0.0))
    each, draw = _answers(asked), np.random.default_rng(seeds.derive(seed, "bootstrap"))
    count = len(found)
    drawn = [
        _precisions(each, draw.multinomial(count, [1 / count] * count)) for _ in range(RESAMPLES)
    ]
    low, high = np.nanquantile([_named(one) for one in drawn], (0.025, 0.975), axis=0)
    values = zip(_named(known.mean((1, 2))), low, high, strict=True)
    return {
        name: (float(v), float(a), float(b)) for name, (v, a, b) in zip(NAMES, values, strict=True)
    }


def mean_iou(
    pairs: Iterable[tuple[Tensor, Tensor]], classes: int, void: int, *, seed: int = 0
) -> dict[str, Interval]:
    """Mean intersection over union, background included: (value, low, high), from 0 to 1.

    Everingham et al. 2010, section 4.2 (the VOC challenge's measure): over the pixels of all images
    together. ``pairs`` are the predicted and the true classes (H, W) of each image, below
    ``classes``; true pixels of ``void`` are left out. The mean is over classes that occur, truly or
    predicted. The interval is that of 95 % over test sets of as many images, drawn with
    replacement.
    """
    from torchmetrics.classification import MulticlassJaccardIndex

    metric = MulticlassJaccardIndex(classes, ignore_index=void)
    images = []
    for predicted, true in pairs:
        metric.update(predicted.long(), true.long())
        images.append(overlaps(predicted[None], true[None], classes))
    both, either = (torch.cat(parts).double() for parts in zip(*images, strict=True))
    interval = iou_interval(both, either, torch.ones(classes, dtype=torch.bool), seed=seed)
    return {"mIoU": (float(metric.compute()), *interval)}


class _Answers(NamedTuple):
    """What was found of one class in all images, by descending score: n boxes."""

    image: np.ndarray  # (n,) where
    right: np.ndarray  # (IoUs, n) whether it is a true box of its own
    wrong: np.ndarray  # (IoUs, n) whether it is none, of those that count
    asked: np.ndarray  # (images,) how many there are to be found


def _compared(found: Sequence[dict[str, Tensor]], true: Sequence[dict[str, Tensor]]) -> Any:
    """pycocotools' comparison of the boxes of each image."""
    from pycocotools.cocoeval import COCOeval

    names = sorted({int(k) for one in (*found, *true) for k in one["labels"]})
    with _silence():
        asked = COCOeval(_listed(true, names), _listed(found, names), "bbox")
        asked.params.areaRng, asked.params.areaRngLbl = [[0, 1e10]], ["all"]
        asked.params.maxDets = [100]
        asked.evaluate()
    return asked


def _listed(images: Sequence[dict[str, Tensor]], names: Sequence[int]) -> Any:
    """Boxes as pycocotools has them."""
    from pycocotools.coco import COCO

    rows = []
    for i, image in enumerate(images):
        left_top, right_bottom = image["boxes"].double().reshape(-1, 2, 2).unbind(1)
        side = right_bottom - left_top
        areas = image.get("area", side.prod(1)).tolist()
        scores = image.get("scores", torch.zeros(len(side))).tolist()
        crowds = image.get("iscrowd", torch.zeros(len(side), dtype=torch.long)).tolist()
        boxes = torch.cat([left_top, side], 1).tolist()
        parts = zip(boxes, image["labels"].tolist(), areas, scores, crowds, strict=True)
        for box, label, area, score, crowd in parts:
            one = {"id": len(rows) + 1, "image_id": i, "category_id": label, "bbox": box}
            rows.append(one | {"area": area, "score": score, "iscrowd": crowd})
    listed: Any = COCO()
    listed.dataset = {
        "images": [{"id": i} for i in range(len(images))],
        "categories": [{"id": name} for name in names],
        "annotations": rows,
    }
    listed.createIndex()
    return listed


def _answers(asked: Any) -> list[_Answers]:
    """Of each class."""
    count, found = len(asked.params.imgIds), []
    for start in range(0, len(asked.evalImgs), count):
        known = [(i, e) for i, e in enumerate(asked.evalImgs[start : start + count]) if e]
        scores = np.concatenate([e["dtScores"] for _, e in known])
        order = np.argsort(-scores, kind="stable")
        matched = np.concatenate([e["dtMatches"] for _, e in known], 1)[:, order] > 0
        counts = ~np.concatenate([e["dtIgnore"] for _, e in known], 1)[:, order].astype(bool)
        wanted = np.zeros(count)
        for i, e in known:
            wanted[i] = (np.asarray(e["gtIgnore"]) == 0).sum()
        image = np.repeat([i for i, _ in known], [len(e["dtScores"]) for _, e in known])[order]
        found.append(_Answers(image, matched & counts, ~matched & counts, wanted))
    return found


def _precisions(each: Sequence[_Answers], times: np.ndarray) -> np.ndarray:
    """AP at each IoU of a test set that has each image so many times; NaN where it asks nothing."""
    levels = np.linspace(0, 1, 101)
    found = []
    for image, right, wrong, asked in each:
        total = times @ asked
        if not total:
            continue
        weight = times[image]
        hits, misses = (right * weight).cumsum(1), (wrong * weight).cumsum(1)
        precision = hits / np.maximum(hits + misses, 1)
        best = np.maximum.accumulate(precision[:, ::-1], 1)[:, ::-1]  # at this recall or a higher
        best = np.pad(best, ((0, 0), (0, 1)))  # none is that high
        places = [np.searchsorted(recall, levels) for recall in hits / total]
        found.append([row[place].mean() for row, place in zip(best, places, strict=True)])
    return np.mean(found, 0) if found else np.full(10, np.nan)


def _named(precisions: np.ndarray) -> tuple[float, float, float]:
    """Over all IoUs of 0.50 to 0.95, at 0.50 and at 0.75."""
    return precisions.mean(), precisions[0], precisions[5]


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Without what pycocotools prints."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
        yield
