import numpy as np
import pytest
import torch

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
        "AP": pytest.approx(100),
        "AP50": pytest.approx(100),
        "AP75": pytest.approx(100),
    }
    shifted = average_precision([found([[0, 0, 10, 7]], [1], [0.9])], wanted)  # IoU of 0.7
    assert shifted["AP50"] == pytest.approx(100)
    assert shifted["AP75"] == 0
    assert shifted["AP"] == pytest.approx(50)  # 0.50, 0.55, ..., 0.70
    assert average_precision([found([[0, 0, 10, 10]], [2], [0.9])], wanted)["AP"] == 0
    assert average_precision([found([], [], [])], wanted)["AP"] == 0


def test_what_is_not_asked_for_costs_nothing():
    wanted = [true([[0, 0, 10, 10], [20, 20, 40, 40]], [1, 1], [0, 1])]
    both = found([[20, 20, 40, 40], [0, 0, 10, 10]], [1, 1], [0.9, 0.8])
    assert average_precision([both], wanted)["AP"] == pytest.approx(100)
    wanted[0]["iscrowd"] = torch.tensor([0, 0])
    only = found([[20, 20, 40, 40]], [1], [0.9])
    assert average_precision([only], wanted)["AP"] == pytest.approx(50, abs=1)


def test_mean_iou_equals_its_definition():
    draw = np.random.default_rng(0)
    pairs = [(draw.integers(0, 3, s), draw.integers(0, 3, s)) for s in ((5, 7), (8, 4))]
    pairs[0][1][0] = 255
    one, two = (np.concatenate([p[k].ravel() for p in pairs]) for k in (0, 1))
    one, two = one[two != 255], two[two != 255]
    each = [((one == k) & (two == k)).sum() / ((one == k) | (two == k)).sum() for k in range(3)]
    as_tensors = [(torch.from_numpy(p), torch.from_numpy(t)) for p, t in pairs]
    # of the five classes, two occur nowhere
    assert mean_iou(as_tensors, 5, 255)["mIoU"] == pytest.approx(100 * np.mean(each), rel=1e-5)


def test_a_missing_library_is_named(monkeypatch):
    monkeypatch.setattr(dense, "find_spec", lambda name: None if name == "pycocotools" else 1)
    with pytest.raises(UserError, match=r"pycocotools not installed; run: pip install"):
        require_extra()
