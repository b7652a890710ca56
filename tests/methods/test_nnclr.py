import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from methods.toy import Rows, rows
from references.instance import nnclr_loss, queue_push
from selftaught.errors import UserError
from selftaught.method import ViewBatch
from selftaught.methods import NNCLR
from selftaught.objectives.contrastive import matching


def nnclr(queue=9, **more):
    torch.manual_seed(0)
    small = {"hidden": 8, "dim": 4, "predictor_hidden": 6, "queue": queue}
    return NNCLR(Rows(), **small | more).double()


def projections(method, batch):
    return [method.projector(method.encoder(x)) for x in batch.views]


def test_loss_equals_the_reference_with_the_queue_from_before_the_batch():
    method, batch = nnclr(temperature=0.2), rows(6)
    z = projections(method, batch)
    p = [method.predictor(x) for x in z]
    parts = [x.detach().numpy() for x in (*z, *p, method.queue.rows)]
    loss = method(batch)["info_nce"].item()
    assert loss == pytest.approx(nnclr_loss(*parts, 0.2), rel=1e-9)


def test_with_the_own_projections_as_its_support_set_it_contrasts_the_views():
    method, batch = nnclr(queue=12, temperature=0.2), rows(6)
    z1, z2 = projections(method, batch)
    method.queue.rows.copy_(F.normalize(torch.cat([z1, z2]), dim=1))
    p1, p2 = method.predictor(z1), method.predictor(z2)
    expected = (matching(z1, p2, 0.2) + matching(z2, p1, 0.2)) / 2
    torch.testing.assert_close(method(batch)["info_nce"], expected)


@pytest.mark.parametrize("queue", [8, 9])
def test_projections_of_the_first_view_enter_the_queue(queue):
    method, place = nnclr(queue), 0
    expected = method.queue.rows.numpy().copy()
    for step in range(5):
        batch = rows(4, seed=step)
        z1 = F.normalize(projections(method, batch)[0].detach(), dim=1)
        method(batch)
        method.after_step()
        expected, place = queue_push(expected, place, z1.numpy())
        np.testing.assert_allclose(method.queue.rows.numpy(), expected, rtol=1e-9)


def test_a_neighbour_gets_no_gradient_and_a_prediction_does():
    """With a predictor that is held, a view learns only as the other one's prediction."""
    method, batch = nnclr(), rows(6)
    views = tuple(x.requires_grad_() for x in batch.views)
    method(ViewBatch(views, batch.index))["info_nce"].backward()
    assert views[0].grad.any()
    assert views[1].grad.any()
    with torch.no_grad():
        method.predictor[-1].weight.zero_()
        method.predictor[-1].bias.fill_(1.0)
    views = tuple(x.detach().requires_grad_() for x in views)
    method(ViewBatch(views, batch.index))["info_nce"].backward()
    assert not any(x.grad.any() for x in views)


def test_the_projector_ends_in_batch_norm_and_the_predictor_does_not():
    method = nnclr()
    assert isinstance(method.projector[-1], nn.BatchNorm1d)
    assert method.projector[-1].affine
    assert [m.out_features for m in method.projector if isinstance(m, nn.Linear)] == [8, 8, 4]
    assert [m.out_features for m in method.predictor if isinstance(m, nn.Linear)] == [6, 4]
    assert isinstance(method.predictor[-1], nn.Linear)


@pytest.mark.parametrize(
    ("more", "option"), [({"temperature": 0.0}, "--temperature"), ({"queue": 0}, "--queue")]
)
def test_what_cannot_be_is_refused(more, option):
    with pytest.raises(UserError, match=option):
        nnclr(**more)
