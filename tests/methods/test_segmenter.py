import pytest
import torch
import torch.nn.functional as F

from selftaught.method import VOID, ViewBatch
from selftaught.methods.segmenter import Segmenter
from selftaught.nn.encoders import build


def segmenter(classes=2):
    torch.manual_seed(0)
    encoder = build("resnet-nano", channels=1, size=16)
    return Segmenter(encoder, channels=1, size=16, classes=classes, width=16)


def halves(n=4):
    """Images that are bright on the left, where class 1 is."""
    x, classes = torch.zeros(n, 1, 16, 16), torch.zeros(n, 1, 16, 16, dtype=torch.uint8)
    x[..., :8], classes[..., :8] = 1, 1
    return x, classes


def test_it_finds_what_it_was_shown():
    method, (x, classes) = segmenter(), halves()
    optimizer = torch.optim.AdamW(method.parameters(), lr=2e-3)
    for _ in range(40):
        optimizer.zero_grad()
        method(ViewBatch((x, classes), torch.arange(4)))["cross_entropy"].backward()
        optimizer.step()
    with torch.no_grad():
        scores = method.eval().scores(x.flip(3))
    assert scores.shape == (4, 3, 16, 16)
    assert (scores.argmax(1) == classes.flip(3)[:, 0]).float().mean() > 0.95


def test_the_objective_is_the_mean_over_known_pixels(monkeypatch):
    method, (x, classes) = segmenter(), halves(2)
    classes[0, 0, :, 3] = VOID
    scores = torch.randn(2, 3, 16, 16)
    monkeypatch.setattr(torch, "rand", lambda n, **_: torch.ones(n))  # none mirrored
    monkeypatch.setattr(method, "scores", lambda _: scores)
    found = method(ViewBatch((x, classes), torch.arange(2)))["cross_entropy"]
    known = classes[:, 0] != VOID
    each = F.cross_entropy(scores, classes[:, 0].long().clamp(max=2), reduction="none")
    assert found.item() == pytest.approx(each[known].mean().item(), rel=1e-5)


def test_images_and_masks_are_mirrored_together(monkeypatch):
    method, (x, classes) = segmenter(), halves(8)
    seen = []

    def look(y):
        seen.append(y)
        return F.one_hot(y[:, 0].long(), 3).permute(0, 3, 1, 2) * 50.0

    monkeypatch.setattr(method, "scores", look)
    torch.manual_seed(0)
    term = method(ViewBatch((x, classes), torch.arange(8)))["cross_entropy"]
    assert term < 1e-6
    assert 0 < sum(torch.equal(y, x[0]) for y in seen[0]) < 8


def test_no_known_pixel_is_no_loss():
    method, (x, classes) = segmenter(), halves()
    term = method(ViewBatch((x, torch.full_like(classes, VOID)), torch.arange(4)))["cross_entropy"]
    assert term == 0
