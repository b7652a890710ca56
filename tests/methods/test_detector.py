import itertools

import pytest
import torch

from selftaught.method import ViewBatch
from selftaught.methods.detector import Detector, anchors
from selftaught.nn.encoders import build

TERMS = {"objectness", "rpn_box_reg", "classifier", "box_reg"}


def square(at, side=16, size=32):
    """An image with one bright square, and where it is."""
    x = torch.zeros(1, size, size)
    left, top = at
    x[:, top : top + side, left : left + side] = 1
    box = torch.tensor([[left, top, left + side, top + side]], dtype=torch.float32)
    return x, {"boxes": box, "labels": torch.tensor([1])}


def detector(targets):
    torch.manual_seed(0)
    encoder = build("resnet-nano", channels=1, size=32)
    return Detector(encoder, channels=1, size=32, classes=2, targets=targets, width=16, hidden=32)


def batch(pairs):
    return ViewBatch((torch.stack([x for x, _ in pairs]),), torch.arange(len(pairs)))


def test_the_four_terms_reach_the_encoder():
    pairs = [square((2, 4)), square((12, 8))]
    method = detector([target for _, target in pairs])
    terms = method(batch(pairs))
    assert terms.keys() == TERMS
    sum(terms.values()).backward()
    assert method.encoder.stem.weight.grad.abs().sum() > 0


def test_it_finds_what_it_was_shown():
    pairs = [square((2, 4)), square((12, 8)), square((8, 14)), square((14, 1))]
    method = detector([target for _, target in pairs])
    optimizer = torch.optim.AdamW(method.parameters(), lr=2e-3)
    for _ in range(40):
        optimizer.zero_grad()
        sum(method(batch(pairs)).values()).backward()
        optimizer.step()
    x, target = square((5, 9))
    with torch.no_grad():
        found = method.eval().detect(x[None])[0]
    assert found["labels"][0] == 1
    assert found["scores"][0] > 0.5
    assert (found["boxes"][0] - target["boxes"][0]).abs().max() < 4


def test_a_mirrored_image_has_mirrored_boxes(monkeypatch):
    seen = []
    pairs = [square((0, 4)), square((12, 8))]
    method = detector([target for _, target in pairs])
    monkeypatch.setattr(
        method.network, "forward", lambda images, targets: seen.append((images, targets)) or {}
    )
    for seed in range(6):
        torch.manual_seed(seed)
        method(batch(pairs))
    flipped = 0
    for images, targets in seen:
        for x, target, (y, _) in zip(images, targets, pairs, strict=True):
            (left, top, right, bottom) = target["boxes"][0].int().tolist()
            assert x[0, top:bottom, left:right].sum() == x.sum()
            flipped += not torch.equal(x, y)
    assert 0 < flipped < 12
    assert torch.equal(method.targets[0]["boxes"], pairs[0][1]["boxes"])

    method.flip = 0.0
    del seen[:]
    for seed in range(6):
        torch.manual_seed(seed)
        method(batch(pairs))
    assert all(torch.equal(images[k], pairs[k][0]) for images, _ in seen for k in range(2))


def test_an_image_without_objects_teaches_too():
    method = detector([{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}])
    terms = method(ViewBatch((torch.rand(1, 1, 32, 32),), torch.tensor([0])))
    assert all(torch.isfinite(term) for term in terms.values())


@pytest.mark.parametrize(("levels", "size"), [(3, 64), (3, 512), (5, 512), (3, 32)])
def test_anchors_run_from_the_smallest_to_the_image(levels, size):
    sides = [side for level in anchors(levels, size).sizes for side in level]
    assert len({len(level) for level in anchors(levels, size).sizes}) == 1
    assert sides[0] == pytest.approx(16)
    assert sides[-1] == pytest.approx(max(size, 32))
    assert all(a < b <= 2.01 * a for a, b in itertools.pairwise(sides))
