import itertools

import numpy as np
import pytest
import torch

from selftaught.errors import UserError
from selftaught.protocols.ranking import average_precision, mean_precision


def reference(scores, truth):
    """PASCAL VOC's average precision of one class by area and by eleven recalls, by definition."""
    known = [(s, y) for s, y in zip(scores, truth, strict=True) if y >= 0]
    positives = sum(y for _, y in known)
    if not positives:
        return np.nan, np.nan
    points = []
    for threshold in sorted({s for s, _ in known}, reverse=True):
        taken = [y for s, y in known if s >= threshold]
        points.append((sum(taken) / positives, sum(taken) / len(taken)))

    def best(recall):
        return max(p for r, p in points if r >= recall - 1e-12)

    recalls = sorted({r for r, _ in points} | {0.0})
    area = sum((b - a) * best(b) for a, b in itertools.pairwise(recalls))
    return area, np.mean([best(i / 10) for i in range(11)])


def draw(n=40, k=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    truth = (torch.rand(n, k, generator=g) < 0.3).long()
    truth[torch.rand(n, k, generator=g) < 0.1] = -1
    scores = truth + 1.5 * torch.randn(n, k, generator=g)
    return scores.round(decimals=0), truth  # many are equal


def test_agrees_with_the_definition():
    scores, truth = draw()
    truth[:, 4] = truth[:, 4].clamp(max=0)
    found = average_precision(scores, truth)
    for k in range(5):
        area, eleven = reference(scores[:, k].tolist(), truth[:, k].tolist())
        assert found.area[k].item() == pytest.approx(area, abs=1e-12, nan_ok=True)
        assert found.eleven[k].item() == pytest.approx(eleven, abs=1e-12, nan_ok=True)
    assert found.area[4].isnan()


def test_weights_are_copies():
    scores, truth = draw(n=25)
    weights = torch.randint(0, 4, (3, 25), generator=torch.Generator().manual_seed(1))
    found = average_precision(scores, truth, weights)
    for row, times in enumerate(weights):
        index = torch.arange(25).repeat_interleave(times)
        expected = average_precision(scores[index], truth[index])
        torch.testing.assert_close(found.area[row], expected.area)
        torch.testing.assert_close(found.eleven[row], expected.eleven)


def test_a_perfect_ranking_is_one_and_the_interval_holds_the_value():
    _, truth = draw()
    scores = truth.double()
    found = average_precision(scores, truth)
    assert torch.equal(found.area, torch.ones(5).double())
    assert torch.equal(found.eleven, torch.ones(5).double())
    for value, low, high in mean_precision(*draw(n=200)).values():
        assert low < value < high
        assert 0.02 < high - low < 0.3
    assert mean_precision(*draw()) == mean_precision(*draw())


def test_a_class_that_nothing_is_said_of():
    scores, truth = draw()
    truth[:, 2] = -1
    found = average_precision(scores, truth)
    assert (
        found.area.isnan().tolist()
        == found.eleven.isnan().tolist()
        == [False] * 2
        + [
            True,
            False,
            False,
        ]
    )
    assert mean_precision(scores, truth)["map11"][0] > 0


def test_nothing_to_find():
    scores, truth = draw()
    with pytest.raises(UserError, match="no test sample has any label"):
        mean_precision(scores, truth.clamp(max=0))
