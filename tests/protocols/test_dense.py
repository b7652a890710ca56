import numpy as np
import pytest
import torch
from torchmetrics.detection import MeanAveragePrecision

from selftaught.errors import UserError
from selftaught.protocols import dense
from selftaught.protocols.dense import average_precision, mean_iou, require_extra


def true(boxes, labels, crowd=None):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return {
        "boxes": boxes,
        "labels": torch.tensor(labels, dtype=torch.long),
        "iscrowd": torch.tensor(crowd or [0] * len(labels)),
        "area": (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]),
    }


def found(boxes, labels, scores):
    said = true(boxes, labels)
    return {k: said[k] for k in ("boxes", "labels")} | {"scores": torch.tensor(scores)}


def test_average_precision_of_what_is_known():
    wanted = [true([[0, 0, 10, 10]], [1])]
    assert average_precision([found([[0, 0, 10, 10]], [1], [0.9])], wanted) == {
        "AP": pytest.approx((1, 1, 1)),
        "AP50": pytest.approx((1, 1, 1)),
        "AP75": pytest.approx((1, 1, 1)),
    }
    shifted = average_precision([found([[0, 0, 10, 7]], [1], [0.9])], wanted)  # IoU of 0.7
    assert shifted["AP50"] == pytest.approx((1, 1, 1))
    assert shifted["AP75"] == (0, 0, 0)
    assert shifted["AP"] == pytest.approx((0.5, 0.5, 0.5))  # 0.50, 0.55, ..., 0.70
    for said in (found([[0, 0, 10, 10]], [2], [0.9]), found([], [], [])):
        assert average_precision([said], wanted)["AP"] == (0, 0, 0)
        assert average_precision([said], [true([], [])])["AP"] == (0, 0, 0)


def test_what_is_not_asked_for_costs_nothing():
    wanted = [true([[0, 0, 10, 10], [20, 20, 40, 40]], [1, 1], [0, 1])]
    both = found([[20, 20, 40, 40], [0, 0, 10, 10]], [1, 1], [0.9, 0.8])
    assert average_precision([both], wanted)["AP"][0] == pytest.approx(1)
    wanted[0]["iscrowd"] = torch.tensor([0, 0])
    only = found([[20, 20, 40, 40]], [1], [0.9])
    assert average_precision([only], wanted)["AP"][0] == pytest.approx(0.5, abs=0.01)


def some_boxes(images=30, classes=3):
    """What a mediocre detector finds, and what is true: some of it crowds."""
    draw = np.random.default_rng(0)
    said, wanted = [], []
    for _ in range(images):
        n = draw.integers(0, 5)
        corner, side = draw.uniform(0, 50, (n, 2)), draw.uniform(5, 30, (n, 2))
        labels = draw.integers(1, classes + 1, n)
        boxes = np.concatenate([corner, corner + side], 1)
        wanted.append(true(boxes, labels.tolist(), (draw.random(n) < 0.1).astype(int).tolist()))
        twice = np.concatenate(
            [boxes + draw.normal(0, 2, (n, 4)), boxes + draw.normal(0, 9, (n, 4))]
        )
        twice = np.concatenate([twice[:, :2], np.maximum(twice[:, 2:], twice[:, :2] + 1)], 1)
        other = draw.integers(1, classes + 1, 2 * n)
        of = np.where(draw.random(2 * n) < 0.8, np.tile(labels, 2), other)
        said.append(found(twice, of.tolist(), draw.random(2 * n)))
    return said, wanted


def by_torchmetrics(said, wanted):
    exact = {  # its own are float32's, which recalls such as 3 of 10 miss
        "iou_thresholds": np.linspace(0.5, 0.95, 10).tolist(),
        "rec_thresholds": np.linspace(0, 1, 101).tolist(),
    }
    metric = MeanAveragePrecision(box_format="xyxy", iou_type="bbox", **exact)
    metric.update(said, wanted)
    return [float(metric.compute()[key]) for key in ("map", "map_50", "map_75")]


def test_average_precision_is_that_of_torchmetrics():
    said, wanted = some_boxes()
    values = [value for value, *_ in average_precision(said, wanted).values()]
    assert values == pytest.approx(by_torchmetrics(said, wanted), rel=1e-6)
    assert 0.1 < values[0] < 0.9


def test_intervals_of_average_precision_are_of_test_sets_with_repeated_images():
    said, wanted = some_boxes()
    index = np.random.default_rng(1).integers(0, len(said), len(said))
    times = np.bincount(index, minlength=len(said))
    drawn = dense._precisions(dense._answers(dense._compared(said, wanted)), times)
    expected = by_torchmetrics([said[i] for i in index], [wanted[i] for i in index])
    assert dense._named(drawn) == pytest.approx(expected, rel=1e-6)
    for value, low, high in average_precision(said, wanted).values():
        assert low < value < high
        assert high - low < 0.4


def test_mean_iou_equals_its_definition():
    draw = np.random.default_rng(0)
    pairs = [(draw.integers(0, 3, s), draw.integers(0, 3, s)) for s in ((5, 7), (8, 4))]
    pairs[0][1][0] = 255
    one, two = (np.concatenate([p[k].ravel() for p in pairs]) for k in (0, 1))
    one, two = one[two != 255], two[two != 255]
    each = [((one == k) & (two == k)).sum() / ((one == k) | (two == k)).sum() for k in range(3)]
    as_tensors = [(torch.from_numpy(p), torch.from_numpy(t)) for p, t in pairs]
    # of the five classes, two occur nowhere
    value, low, high = mean_iou(as_tensors, 5, 255)["mIoU"]
    assert value == pytest.approx(np.mean(each), rel=1e-5)
    assert low < value < high


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setattr(dense, "find_spec", lambda name: None if name == "pycocotools" else 1)
    with pytest.raises(UserError, match=r"pycocotools not installed; run: pip install"):
        require_extra()
