import numpy as np
import pytest
import torch

from references import masks as reference
from references.masked import unit_mask
from selftaught import dist
from selftaught.errors import UserError
from selftaught.nn.masking import (
    BLOCKS,
    RETRIES,
    MultiBlock,
    blockwise,
    random_split,
    take,
    unitwise,
)


def test_kept_and_hidden_are_a_partition():
    kept, hidden = random_split(5, 16, 0.75, torch.device("cpu"))
    assert kept.shape == (5, 4)
    assert hidden.shape == (5, 12)
    both = torch.cat([kept, hidden], dim=1).sort(dim=1).values
    assert torch.equal(both, torch.arange(16).expand(5, -1))


@pytest.mark.parametrize(
    ("length", "ratio", "kept"),
    [(49, 0.75, 12), (64, 0.75, 16), (196, 0.75, 49), (49, 0.6, 19), (16, 0.0, 16), (16, 1.0, 0)],
)
def test_the_number_of_the_kept_is_rounded_down(length, ratio, kept):
    assert random_split(2, length, ratio, torch.device("cpu"))[0].shape == (2, kept)


def test_each_sample_is_split_in_its_own_way_and_by_the_seed():
    torch.manual_seed(0)
    a, _ = random_split(2, 64, 0.5, torch.device("cpu"))
    torch.manual_seed(0)
    b, _ = random_split(2, 64, 0.5, torch.device("cpu"))
    assert torch.equal(a, b)
    assert not torch.equal(a[0], a[1])


@pytest.mark.parametrize(
    ("grid", "unit", "ratio"), [(7, 1, 0.6), (14, 2, 0.6), (6, 3, 0.3), (4, 4, 0.5)]
)
def test_units_equal_the_reference(grid, unit, ratio):
    torch.manual_seed(0)
    ours = unitwise(5, grid, unit, ratio)
    torch.manual_seed(0)
    noise = torch.rand(5, (grid // unit) ** 2).numpy()
    for i in range(5):
        np.testing.assert_array_equal(ours[i].numpy(), unit_mask(noise[i], grid, unit, ratio))


def test_take():
    tokens = torch.arange(12.0).view(1, 4, 3)
    assert torch.equal(take(tokens, torch.tensor([[2, 0]]))[0], tokens[0, [2, 0]])


@pytest.mark.parametrize(
    ("grid", "count", "smallest", "aspect"),
    [(14, 120, 16, 0.3), (7, 29, 4, 0.3), (4, 10, 1, 0.5), (4, 15, 16, 0.3), (3, 0, 1, 0.3)],
)
def test_blocks_equal_the_reference(grid, count, smallest, aspect):
    torch.manual_seed(0)
    ours = blockwise(20, grid, count, smallest=smallest, aspect=aspect)
    torch.manual_seed(0)
    draws, spare = torch.rand(20, BLOCKS, 4).numpy(), torch.rand(20, grid**2).numpy()
    assert (ours.sum(dim=1) == count).all()
    for i in range(20):
        slow = reference.blockwise(draws[i], spare[i], grid, count, smallest, aspect)
        assert ours[i].tolist() == slow.tolist()


def test_each_sample_may_hide_another_number():
    counts = torch.tensor([0, 1, 7, 30, 48, 49])
    assert torch.equal(blockwise(6, 7, counts).sum(dim=1), counts)


def test_hidden_places_lie_together_and_no_side_is_preferred():
    torch.manual_seed(0)
    square = blockwise(400, 14, 120).view(400, 14, 14)
    alike = (square[:, 1:] == square[:, :-1]).float().mean()  # 0.53 without blocks
    assert alike > 0.85
    often = square.float().mean(dim=0)
    assert 0 < often.min() <= often.max() < 1
    for turned in (often.flip(0), often.flip(1), often.T):
        assert (turned - often).abs().mean() < 0.04


@pytest.mark.parametrize(("grid", "least"), [(7, 4), (7, 14), (8, 10), (14, 10), (16, 10)])
def test_a_context_and_targets_equal_the_reference(grid, least):
    torch.manual_seed(grid)
    context, targets = MultiBlock(grid, least=least)(20)
    torch.manual_seed(grid)
    sizes, blocks = torch.rand(2).tolist(), torch.rand(20, 4, 2).numpy()
    squares = torch.rand(4 * RETRIES + 1, 20, 2).numpy()
    slow = [reference.multiblock(sizes, blocks[i], squares[:, i], grid, least) for i in range(20)]
    assert targets.tolist() == [expected for _, expected in slow]
    assert context.shape[1] == min(len(whole) for whole, _ in slow) > least
    for ours, (whole, _) in zip(context.tolist(), slow, strict=True):
        assert ours == sorted(set(ours) & set(whole))


def test_a_context_shows_no_target_but_where_it_would_be_too_small():
    torch.manual_seed(0)
    context, targets = MultiBlock(7, least=4)(64)
    both = torch.cat([context[:, None].expand(-1, 4, -1), targets], dim=2)  # (n, m, k + l)
    assert all(len(set(row)) == len(row) for row in both.flatten(0, 1).tolist())
    context, targets = MultiBlock(7, least=20)(64)
    shown = (context[:, None, :, None] == targets[:, :, None]).any(dim=(2, 3))  # (n, m)
    assert context.shape[1] > 20
    assert shown.any()
    assert not shown[:, 0].all()  # the last are given up first


def test_every_place_is_seen_and_predicted_and_no_side_is_preferred():
    torch.manual_seed(0)
    seen, predicted = torch.zeros(2, 49)
    for _ in range(40):
        context, targets = MultiBlock(7, least=4)(64)
        seen += context.flatten().bincount(minlength=49)
        predicted += targets.flatten().bincount(minlength=49)
    for count in (seen, predicted):
        assert count.min() > 0
        square = count.view(7, 7) / count.mean()
        assert (square.flip(0) - square).abs().mean() < 0.1
        assert (square.flip(1) - square).abs().mean() < 0.1


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"grid": 4}, "4 x 4 patches are too few"),
        ({"grid": 8, "least": 49}, "a context of more than 49"),
        ({"grid": 8, "scale": (0.3, 0.2)}, "0.3 to 0.2"),
        ({"grid": 8, "context": (0.5, 1.5)}, "0.5 to 1.5"),
        ({"grid": 8, "targets": 0}, "--targets"),
    ],
)
def test_blocks_that_cannot_be_are_one_line(settings, said):
    with pytest.raises(UserError, match=said):
        MultiBlock(**settings)


@pytest.mark.parametrize(
    "draw", [lambda n: (blockwise(n, 7, 20),), lambda n: MultiBlock(8, least=4)(n)]
)
def test_several_processes_hide_what_one_would_have_hidden(draw, monkeypatch):
    torch.manual_seed(1)
    one = draw(12)
    monkeypatch.setattr(dist, "world_size", lambda: 3)
    for rank in range(3):
        monkeypatch.setattr(dist, "rank", lambda rank=rank: rank)
        torch.manual_seed(1)
        for whole, part in zip(one, draw(4), strict=True):
            assert torch.equal(whole[4 * rank : 4 * rank + 4], part)
