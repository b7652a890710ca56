import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from references.instance import bank_update, queue_push
from references.regression import ema as reference
from selftaught.errors import UserError
from selftaught.nn.memory import EMA, Bank, Prototypes, Queue


def rows(n, d=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, d, generator=g, dtype=torch.float64)


def lengths(x):
    return x.norm(dim=1)


# EMA


def test_moves_by_one_minus_the_momentum_of_the_difference():
    source = nn.Linear(3, 2).double()
    mean = EMA(source)
    before = mean.modules_[0].weight.clone()
    with torch.no_grad():
        source.weight.add_(1.0)
    mean.update(source, momentum=0.9)
    expected = reference(before.numpy(), source.weight.detach().numpy(), 0.9)
    torch.testing.assert_close(mean.modules_[0].weight, torch.from_numpy(expected))


def test_momentum_one_stays_and_zero_copies():
    source, mean = nn.Linear(3, 2), EMA(nn.Linear(3, 2))
    before = mean.modules_[0].weight.clone()
    mean.update(source, momentum=1.0)
    assert torch.equal(mean.modules_[0].weight, before)
    mean.update(source, momentum=0.0)
    assert torch.equal(mean.modules_[0].weight, source.weight)


def test_no_gradient_and_its_own_copies():
    source = nn.Linear(3, 2)
    mean = EMA(source)
    assert not any(p.requires_grad for p in mean.parameters())
    assert not mean(torch.ones(1, 3)).requires_grad
    assert mean.modules_[0].weight.data_ptr() != source.weight.data_ptr()
    assert source.weight.requires_grad


def test_several_modules_apply_one_after_the_other_and_move_together():
    first, second = nn.Linear(3, 4), nn.Linear(4, 2)
    mean = EMA(first, second)
    x = torch.ones(5, 3)
    assert torch.equal(mean(x), second(first(x)))
    other = nn.Linear(3, 4), nn.Linear(4, 2)
    mean.update(*other, momentum=0.0)
    assert torch.equal(mean(x), other[1](other[0](x)))
    with pytest.raises(ValueError, match="argument"):
        mean.update(first, momentum=0.5)


def test_running_statistics_are_its_own():
    source = nn.BatchNorm1d(3).train()
    mean = EMA(source).train()
    source(torch.randn(8, 3) + 4)
    mean.update(source, momentum=0.0)
    own = mean.modules_[0]
    assert torch.equal(own.running_mean, torch.zeros(3))
    assert own.num_batches_tracked == 0
    x = torch.randn(8, 3) - 2
    mean(x)
    assert torch.allclose(own.running_mean, 0.1 * x.mean(0))
    assert own.num_batches_tracked == 1


# Queue


@pytest.mark.parametrize("counts", [(2,), (5,), (3, 3), (4, 4, 4), (12,), (3, 13, 1), (0, 2)])
def test_a_queue_equals_the_reference(counts):
    queue = Queue(5, 3).double()
    slow, place = queue.rows.numpy().copy(), 0
    for k, count in enumerate(counts):
        x = rows(count, seed=k)
        queue.push(x)
        slow, place = queue_push(slow, place, x.numpy())
        np.testing.assert_array_equal(queue.rows.numpy(), slow)
        assert queue.place == place
        assert queue.pushed == sum(counts[: k + 1])


def test_the_oldest_rows_leave_first():
    queue = Queue(4, 1)
    queue.push(torch.arange(1.0, 7).view(-1, 1)[:3])
    queue.push(torch.arange(4.0, 7).view(-1, 1))
    oldest_first = queue.rows.roll(-int(queue.place), 0)
    assert oldest_first.flatten().tolist() == [3, 4, 5, 6]


def test_full_once_every_row_was_pushed():
    queue = Queue(4, 3)
    for count, full in ((3, False), (1, True), (2, True)):
        queue.push(rows(count))
        assert queue.full.shape == ()
        assert bool(queue.full) == full


def test_a_queue_begins_with_unit_vectors_and_keeps_what_it_is_given():
    torch.manual_seed(0)
    queue = Queue(64, 8)
    torch.testing.assert_close(lengths(queue.rows), torch.ones(64))
    assert lengths(queue.rows.mean(0, keepdim=True)) < 0.3  # no direction is preferred
    queue.push(torch.full((1, 8), 3.0))
    assert queue.rows[0].tolist() == [3.0] * 8


def test_a_checkpoint_holds_where_the_queue_goes_on():
    one, other = Queue(5, 3), Queue(5, 3)
    one.push(rows(7))
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    for queue in (one, other):
        queue.push(rows(2, seed=1))
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name
    assert other.full


@pytest.mark.parametrize("memory", [Queue(5, 3), Bank(5, 3)])
def test_half_precision_is_widened(memory):
    x = rows(2).bfloat16()
    put = memory.push if isinstance(memory, Queue) else lambda x: memory.update(torch.arange(2), x)
    put(x)
    assert memory.rows.dtype == torch.float32
    torch.testing.assert_close(F.normalize(memory.rows[:2]), F.normalize(x.float()))


def test_no_memory_takes_a_gradient():
    queue, bank, x = Queue(5, 3), Bank(5, 3), torch.ones(2, 3, requires_grad=True)
    queue.push(x)
    bank.update(torch.arange(2), x)
    assert not queue.rows.requires_grad
    assert not bank.rows.requires_grad


def test_an_empty_queue_is_refused():
    with pytest.raises(UserError, match="--queue"):
        Queue(0, 3)


# Bank


@pytest.mark.parametrize("momentum", [0.0, 0.5, 1.0])
def test_a_bank_equals_the_reference(momentum):
    bank, index, x = Bank(6, 3).double(), torch.tensor([4, 0, 3]), 7 * rows(3)
    slow = bank_update(bank.rows.numpy(), index.numpy(), x.numpy(), momentum)
    bank.update(index, x, momentum=momentum)
    np.testing.assert_allclose(bank.rows.numpy(), slow, rtol=1e-9)


def test_a_bank_holds_unit_vectors_from_the_first():
    bank = Bank(6, 3)
    torch.testing.assert_close(lengths(bank.rows), torch.ones(6))
    bank.update(torch.tensor([1, 2]), 100 * rows(2), momentum=0.3)
    torch.testing.assert_close(lengths(bank.rows), torch.ones(6))


def test_a_bank_replaces_by_default_and_leaves_the_others():
    bank, x = Bank(6, 3), F.normalize(rows(2).float())
    before = bank.rows.clone()
    bank.update(torch.tensor([5, 1]), x)
    torch.testing.assert_close(bank.rows[[5, 1]], x)
    assert torch.equal(bank.rows[[0, 2, 3, 4]], before[[0, 2, 3, 4]])


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_of_the_same_image_the_last_row_counts(momentum):
    once, twice, x = Bank(6, 3), Bank(6, 3), rows(5)
    twice.load_state_dict(once.state_dict())
    twice.update(torch.tensor([2, 4, 2, 2, 4]), x, momentum=momentum)
    once.update(torch.tensor([2, 4]), x[[3, 4]], momentum=momentum)
    assert torch.equal(twice.rows, once.rows)


# Prototypes


def test_prototypes_are_unit_vectors_and_scores_are_dot_products():
    prototypes, x = Prototypes(3, 7).double(), rows(4)
    torch.testing.assert_close(lengths(prototypes.weight), torch.ones(7, dtype=torch.float64))
    scores = prototypes(x)
    torch.testing.assert_close(scores, x @ prototypes.weight.T)
    with torch.no_grad():
        prototypes.weight.mul_(3)
    before = F.normalize(prototypes.weight.detach())
    prototypes.normalize_()
    torch.testing.assert_close(prototypes.weight.detach(), before)


def test_prototypes_that_do_not_learn_have_no_gradient():
    prototypes, x = Prototypes(3, 7).double(), rows(4).requires_grad_()
    prototypes(x, learn=False).square().sum().backward()
    assert prototypes.weight.grad is None
    held, x.grad = x.grad, None
    prototypes(x).square().sum().backward()
    assert prototypes.weight.grad.abs().max() > 0.1
    torch.testing.assert_close(x.grad, held)  # features learn all the same
