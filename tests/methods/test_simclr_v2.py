import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from contract.small import build, steps
from methods.toy import Rows, rows
from references.contrastive import nt_xent as reference
from references.instance import queue_push
from references.regression import ema
from selftaught.errors import UserError
from selftaught.methods import SimCLR, SimCLRV2
from selftaught.nn.heads import first_layers
from selftaught.objectives.contrastive import nt_xent


def simclr(queue=9, **more):
    torch.manual_seed(0)
    return SimCLRV2(Rows(), **{"dim": 4, "queue": queue} | more).double()


def projections(method, batch):
    return [method.projector(method.encoder(x)) for x in batch.views]


# The head


@pytest.mark.parametrize("layers", [2, 3, 4])
def test_fine_tuning_keeps_the_first_layer_of_the_head(layers):
    method = simclr(layers=layers)
    head = method.projector
    assert isinstance(head, nn.Sequential)
    kept = first_layers(head, method.kept_layers)
    assert [type(m) for m in kept] == [nn.Linear, nn.BatchNorm1d, nn.ReLU]
    widths = [m.out_features for m in head if isinstance(m, nn.Linear)]
    assert widths == [method.encoder.dim] * (layers - 1) + [4]
    h = method.encoder(rows(6).views[0])
    torch.testing.assert_close(head[len(kept) :](kept(h)), head(h))


def test_the_head_ends_in_a_batch_norm_with_a_scale_and_without_a_shift():
    run = build("simclr_v2", queue=0)
    last = run.method.projector[-1]
    for _ in steps(run, 3, of=10):
        pass
    assert not last.bias.any()
    assert (last.weight != 1).all()
    trained = {id(p) for group in run.optimizer.param_groups for p in group["params"]}
    assert id(last.bias) not in trained
    assert all(m.bias is None for m in run.method.projector if isinstance(m, nn.Linear))


# Without a queue


def test_without_a_queue_it_is_simclr_with_another_head():
    method, batch = simclr(queue=0, temperature=0.2), rows(6)
    z1, z2 = (z.detach().numpy() for z in projections(method, batch))
    loss = method(batch)["nt_xent"].item()
    assert loss == pytest.approx(reference(z1, z2, 0.2), rel=1e-9)
    one = SimCLR(method.encoder, hidden=4, dim=4, temperature=0.2).double()
    one.projector = method.projector
    assert one(batch)["nt_xent"].item() == loss


def test_without_a_queue_nothing_is_copied_or_remembered():
    method = simclr(queue=0)
    before = {name: x.clone() for name, x in method.state_dict().items()}
    method.after_step()
    assert not any("target" in name or "queue" in name for name in before)
    assert all(torch.equal(x, before[name]) for name, x in method.state_dict().items())


# With one


def test_the_queue_from_before_the_batch_holds_more_negatives():
    method, batch = simclr(temperature=0.2), rows(6)
    z1, z2 = projections(method, batch)
    expected = nt_xent(z1, z2, 0.2, method.queue.rows)
    torch.testing.assert_close(method(batch)["nt_xent"], expected, rtol=1e-9, atol=0)
    fewer = simclr(queue=0, temperature=0.2)
    fewer.encoder, fewer.projector = method.encoder, method.projector
    assert method(batch)["nt_xent"] > fewer(batch)["nt_xent"]


def test_what_the_copy_makes_of_second_views_enters_the_queue():
    method, place = simclr(), 0
    with torch.no_grad():
        method.target.modules_[0].linear.weight.add_(1)  # tells it from the network
    expected = method.queue.rows.numpy().copy()
    for step in range(4):
        batch = rows(4, seed=step)
        made = F.normalize(method.target(batch.views[1]), dim=1).numpy()
        method(batch)
        method.after_step()
        expected, place = queue_push(expected, place, made)
        np.testing.assert_allclose(method.queue.rows.numpy(), expected, rtol=1e-9)


def test_the_copy_moves_by_one_minus_the_momentum():
    method = simclr(momentum=0.9)
    copies = method.target.modules_[0].linear.weight, method.target.modules_[1][0].weight
    before = [w.clone().numpy() for w in copies]
    method(rows(5))
    with torch.no_grad():
        method.encoder.linear.weight.add_(1)
        method.projector[0].weight.add_(2)
    method.after_step()
    for copy, old, step in zip(copies, before, (1, 2), strict=True):
        np.testing.assert_allclose(copy.numpy(), ema(old, old + step, 0.9), rtol=1e-12)


@pytest.mark.parametrize(
    ("more", "option"),
    [
        ({"temperature": 0.0}, "--temperature"),
        ({"momentum": 1.1}, "--momentum"),
        ({"layers": 1}, "--layers"),
        ({"queue": -1}, "--queue"),
    ],
)
def test_what_cannot_be_is_refused(more, option):
    with pytest.raises(UserError, match=option):
        simclr(**more)
