import pytest
import torch

from selftaught.commands.labels import choose
from selftaught.errors import UserError

LABELS = torch.tensor([0] * 50 + [1] * 150 + [2] * 3)


def counts(index):
    return [int((LABELS[index] == c).sum()) for c in range(3)]


def test_a_share_of_each_class_and_at_least_one():
    assert counts(choose(LABELS, "10%", 0)) == [5, 15, 1]
    assert counts(choose(LABELS, "0.5%", 0)) == [1, 1, 1]
    assert counts(choose(LABELS, "100%", 0)) == [50, 150, 3]


def test_so_many_of_each_class():
    assert counts(choose(LABELS, "3-per-class", 0)) == [3, 3, 3]
    assert torch.equal(choose(LABELS, "all", 0), torch.arange(203))


def test_the_seed_decides_which():
    one, two, other = (choose(LABELS, "10%", seed) for seed in (0, 0, 1))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)
    assert torch.equal(one, one.sort().values)
    assert len(one.unique()) == len(one)


@pytest.mark.parametrize(
    "asked", ["10", "ten%", "4-per-class", "0-per-class", "-1%", "0%", "0.0%", "300%", ""]
)
def test_anything_else_is_refused(asked):
    with pytest.raises(UserError, match="--labels"):
        choose(LABELS, asked, 0)
