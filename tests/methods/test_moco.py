import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from contract.small import BATCH, build, stream
from methods.toy import Rows, rows
from references.instance import moco_info_nce, queue_push
from references.regression import ema
from selftaught.errors import UserError
from selftaught.method import ViewBatch
from selftaught.methods import MoCo
from selftaught.objectives.contrastive import matching

ID = 0  # the pixel that tells the samples of a batch apart


def moco(queue=7, groups=1, **more):
    torch.manual_seed(0)
    return MoCo(Rows(), dim=4, queue=queue, groups=groups, **more).double()


def keys(method, batch):
    """What the slow copy makes of the second view, in the batch's order."""
    return F.normalize(method.target(batch.views[1]), dim=1)


def seen_by(module, method, batch):
    """Which samples come to a module, in the order in which they come."""
    found = []
    hook = module.register_forward_pre_hook(lambda _, inputs: found.append(inputs[0]))
    method(batch)
    hook.remove()
    (x,) = found
    return x.flatten(1)[:, ID].round().long()


def numbered(n, side=8):
    """Both views of sample i have the number i in one pixel."""
    x = torch.randn(2, n, 1, side, side, generator=torch.Generator().manual_seed(0))
    x[:, :, 0, 0, ID] = torch.arange(n)
    return ViewBatch(tuple(x.unbind()), torch.arange(n))


# Shuffled batch norm


def test_keys_are_in_other_groups_than_queries():
    groups, n = 4, 16
    method = build("moco", groups=groups).method.train()
    batch = numbered(n)
    queries = seen_by(method.encoder, method, batch)
    assert torch.equal(queries, torch.arange(n))
    shuffles = [seen_by(method.target.modules_[0], method, batch) for _ in range(5)]
    for order in shuffles:
        assert torch.equal(order.sort().values, torch.arange(n))
        ours = {frozenset(part.tolist()) for part in queries.chunk(groups)}
        theirs = {frozenset(part.tolist()) for part in order.chunk(groups)}
        assert not ours & theirs
    assert len({tuple(order.tolist()) for order in shuffles}) == len(shuffles)


def test_keys_come_back_to_the_order_of_the_queries():
    method, batch = moco(), rows(12)
    method(batch)
    torch.testing.assert_close(F.normalize(method.keys, dim=1), keys(method, batch))


def test_both_networks_have_batch_norm_in_groups():
    method = build("moco_v2", groups=4).method
    norms = [m for m in method.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert {m.groups for m in norms} == {4}
    assert not [m for m in method.projector.modules() if isinstance(m, nn.BatchNorm1d)]


def test_statistics_of_its_group_alone_make_a_query():
    method, batch = build("moco", groups=4).method.train(), numbered(BATCH)
    x = batch.views[0].clone()
    one = method.encoder(x)
    x[:4] += 1
    other = method.encoder(x)
    assert torch.equal(one[4:], other[4:])
    assert not torch.isclose(one[:4], other[:4]).all()


# The queue and the objective


def test_loss_equals_the_reference_with_the_queue_from_before_the_batch():
    method, batch = moco(temperature=0.2), rows(5)
    q, k = method.projector(method.encoder(batch.views[0])), keys(method, batch)
    parts = (q.detach().numpy(), k.numpy(), method.queue.rows.numpy())
    loss = method(batch)["info_nce"].item()
    assert loss == pytest.approx(moco_info_nce(*parts, 0.2), rel=1e-9)


@pytest.mark.parametrize("queue", [10, 4, 3])
def test_keys_enter_the_queue_in_order_and_the_oldest_leave(queue):
    method, place = moco(queue), 0
    expected = method.queue.rows.numpy().copy()
    for step in range(6):
        batch = rows(4, seed=step)
        made = keys(method, batch)
        method(batch)
        method.after_step()
        expected, place = queue_push(expected, place, made.numpy())
        by_age = method.queue.rows.roll(-method.queue.place.item(), dims=0)
        np.testing.assert_allclose(by_age.numpy(), np.roll(expected, -place, axis=0), rtol=1e-12)


def test_with_the_batchs_other_keys_as_its_queue_it_is_info_nce_within_the_batch():
    n = 6
    method, batch = moco(queue=n - 1, temperature=0.1), rows(n)
    x1, x2 = batch.views
    k, losses = keys(method, batch), []
    for i in range(n):
        method.queue.rows.copy_(torch.cat([k[:i], k[i + 1 :]]))
        losses.append(method(ViewBatch((x1[[i]], x2[[i]]), batch.index[[i]]))["info_nce"])
    within = matching(method.projector(method.encoder(x1)), k, 0.1)
    torch.testing.assert_close(torch.stack(losses).mean(), within, rtol=1e-9, atol=0)


def test_only_queries_get_a_gradient():
    method, batch = moco(), rows(5)
    views = tuple(x.requires_grad_() for x in batch.views)
    method(ViewBatch(views, batch.index))["info_nce"].backward()
    assert views[0].grad.any()
    assert views[1].grad is None
    assert not any(p.requires_grad for p in method.target.parameters())


def test_the_copy_moves_by_one_minus_the_momentum():
    method = moco(momentum=0.9)
    copies = method.target.modules_[0].linear.weight, method.target.modules_[1][0].weight
    before = [w.clone().numpy() for w in copies]
    method(rows(5))
    with torch.no_grad():
        method.encoder.linear.weight.add_(1)
        method.projector[0].weight.add_(2)
    method.after_step()
    for copy, old, step in zip(copies, before, (1, 2), strict=True):
        np.testing.assert_allclose(copy.numpy(), ema(old, old + step, 0.9), rtol=1e-12)


# Bad input


@pytest.mark.parametrize(
    ("more", "option"),
    [
        ({"temperature": 0.0}, "--temperature"),
        ({"momentum": 1.1}, "--momentum"),
        ({"momentum": -0.1}, "--momentum"),
        ({"queue": 0}, "--queue"),
        ({"groups": 0}, "--groups"),
    ],
)
def test_what_cannot_be_is_refused(more, option):
    with pytest.raises(UserError, match=option):
        moco(**more)


def test_a_batch_that_the_groups_do_not_divide_is_refused():
    run = build("moco", groups=3)
    with pytest.raises(UserError, match="groups"):
        run.method.train()(next(stream(run)))
