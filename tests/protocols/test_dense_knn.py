import numpy as np
import pytest
import torch

from selftaught.errors import UserError
from selftaught.protocols.dense_knn import dense_knn, iou_interval, mean_iou, overlaps, soft_labels


def draw(n=60, m=20, dim=6, classes=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    bank, queries = torch.randn(n, dim, generator=g), torch.randn(m, dim, generator=g)
    return bank, torch.rand(n, classes, generator=g).softmax(1), queries


def masks(n=3, side=7, classes=4, seed=0):
    g = torch.Generator().manual_seed(seed)
    found = torch.randint(classes, (n, side, side), generator=g)
    found[torch.rand(found.shape, generator=g) < 0.2] = 255
    return found.to(torch.uint8)


@pytest.mark.parametrize("k", [1, 30, 100])  # 100 is more than the bank holds
def test_attention_to_the_nearest_agrees_with_the_definition(k):
    bank, labels, queries = draw()
    unit = [(x / x.norm(dim=1, keepdim=True)).double().numpy() for x in (bank, queries)]
    expected = []
    for q in unit[1]:
        s = unit[0] @ q
        near = np.argsort(-s, kind="stable")[:k]
        w = np.exp(s[near] / 0.02)
        expected.append((w[:, None] * labels.numpy()[near]).sum(0) / w.sum())
    found = dense_knn(bank, labels, queries, k=k)
    np.testing.assert_allclose(found, np.array(expected), atol=2e-5)
    small = dense_knn(bank, labels, queries, k=k, block=(7, 13))
    torch.testing.assert_close(small, found, atol=1e-5, rtol=0)


@pytest.mark.parametrize("side", [1, 2, 3, 7])
def test_soft_labels_are_shares_of_what_is_known(side):
    m = masks()
    m[0, :4, :4] = 255
    share, known = soft_labels(m, 4, side)
    for i in range(3):
        for a in range(side):
            for b in range(side):
                rows = slice(a * 7 // side, -(-(a + 1) * 7 // side))
                columns = slice(b * 7 // side, -(-(b + 1) * 7 // side))
                part = m[i, rows, columns]
                part = part[part != 255]
                assert bool(known[i, a, b]) == bool(len(part))
                for c in range(4):
                    expected = (part == c).float().mean().item() if len(part) else 0.0
                    assert share[i, a, b, c].item() == pytest.approx(expected, abs=1e-6)


def test_iou_agrees_with_the_definition():
    truth, guess = masks(), masks(seed=1) % 4
    both, either = overlaps(guess, truth, 4)
    for i in range(3):
        for c in range(4):
            known = truth[i] != 255
            a, b = (guess[i] == c) & known, (truth[i] == c) & known
            assert both[i, c] == (a & b).sum()
            assert either[i, c] == (a | b).sum()
    there = torch.tensor([True, True, False, True])
    share = (both.sum(0) / either.sum(0))[there]
    value = mean_iou(both.sum(0), either.sum(0), there)
    assert value.item() == pytest.approx(share.mean().item())
    low, high = iou_interval(both.double(), either.double(), there)
    assert low < value < high
    assert mean_iou(*(o.sum(0) for o in overlaps(truth % 255, truth, 4)), there) == 1


def test_a_class_that_is_nowhere_does_not_count():
    both, either = torch.tensor([2.0, 0.0]), torch.tensor([4.0, 0.0])
    assert mean_iou(both, either, torch.tensor([True, True])) == 0.5


def test_an_empty_bank():
    bank, labels, queries = draw()
    with pytest.raises(UserError, match="no place with a class"):
        dense_knn(bank[:0], labels[:0], queries)
