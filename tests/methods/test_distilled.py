import pytest
import torch
from torch import nn

from selftaught.errors import UserError
from selftaught.method import ViewBatch
from selftaught.methods.distilled import Distilled


class Linear(nn.Linear):
    dim = 4


def build(labels, **more):
    torch.manual_seed(0)
    teacher = nn.Sequential(nn.Linear(6, 3), nn.BatchNorm1d(3))
    return Distilled(Linear(6, 4), teacher, classes=3, labels=torch.tensor(labels), **more)


def batch():
    x = torch.randn(4, 6, generator=torch.Generator().manual_seed(1))
    return ViewBatch((x,), torch.tensor([5, 0, 2, 3]))


def test_the_student_is_told_what_the_teacher_says_at_a_temperature():
    method = build([-1] * 6, temperature=3.0).train()
    seen = batch()
    p = (method.teacher(seen.views[0]) / 3).softmax(1)
    q = (method.network(seen.views[0]) / 3).softmax(1)
    found = method(seen)
    assert list(found) == ["teacher"]
    torch.testing.assert_close(found["teacher"], -(p * q.log()).sum(1).mean())


def test_a_student_like_its_teacher_has_no_gradient():
    method = build([-1] * 6)
    method.teacher = method.network
    method(batch())["teacher"].backward()
    assert all(p.grad.abs().max() < 1e-6 for p in method.network.parameters())


def test_known_labels_count_by_their_weight_and_unknown_ones_do_not():
    method = build([1, -1, -1, 2, -1, 0], label_weight=0.25)
    seen = batch()
    found = method(seen)
    log_q = method.network(seen.views[0]).log_softmax(1)
    known = -(log_q[0, 0] + log_q[1, 1] + log_q[3, 2])  # images 5, 0 and 3; of 2 it is not known
    torch.testing.assert_close(found["labels"], 0.25 * 2 * known / 4)  # a half of all are known
    alone = build([1, -1, -1, 2, -1, 0])
    torch.testing.assert_close(found["teacher"], 0.75 * alone(seen)["teacher"])


def test_the_teacher_neither_learns_nor_keeps_statistics():
    method = build([-1] * 6).train()
    before = method.teacher[1].running_mean.clone()
    method(batch())["teacher"].backward()
    assert torch.equal(method.teacher[1].running_mean, before)
    assert all(p.grad is None for p in method.teacher.parameters())
    assert all(p.grad is not None for p in method.network.parameters())


@pytest.mark.parametrize(
    ("more", "named"),
    [({"temperature": 0.0}, "--temperature above 0"), ({"label_weight": 1.5}, "--label-weight")],
)
def test_settings_out_of_range_are_refused(more, named):
    with pytest.raises(UserError, match=named):
        build([-1] * 6, **more)
