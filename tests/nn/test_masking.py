import torch

from selftaught.nn.masking import random_split, take


def test_kept_and_hidden_are_a_partition():
    kept, hidden = random_split(5, 16, 0.75, torch.device("cpu"))
    assert kept.shape == (5, 4)
    assert hidden.shape == (5, 12)
    both = torch.cat([kept, hidden], dim=1).sort(dim=1).values
    assert torch.equal(both, torch.arange(16).expand(5, -1))


def test_each_sample_is_split_in_its_own_way_and_by_the_seed():
    torch.manual_seed(0)
    a, _ = random_split(2, 64, 0.5, torch.device("cpu"))
    torch.manual_seed(0)
    b, _ = random_split(2, 64, 0.5, torch.device("cpu"))
    assert torch.equal(a, b)
    assert not torch.equal(a[0], a[1])


def test_take():
    tokens = torch.arange(12.0).view(1, 4, 3)
    assert torch.equal(take(tokens, torch.tensor([[2, 0]]))[0], tokens[0, [2, 0]])
