import copy

import pytest
import torch

from contract.small import build, steps, stream
from references.regression import byol_momentum, cosine_regression
from selftaught.errors import UserError
from selftaught.methods.byol import BYOL
from selftaught.nn.residual import ResNetNano


def test_the_loss_is_the_sum_of_both_directions():
    run = build("byol")
    run.method.double().train()
    batch = next(stream(run, dtype=torch.float64))
    with torch.no_grad():
        loss = run.method(batch)["regression"].item()
        p1, p2 = (
            run.method.predictor(run.method.projector(run.method.encoder(x))) for x in batch.views
        )
        z1, z2 = (run.method.target(x) for x in batch.views)
    expected = cosine_regression(p1.numpy(), z2.numpy()) + cosine_regression(p2.numpy(), z1.numpy())
    assert loss == pytest.approx(expected, rel=1e-9)


def test_the_target_moves_along_the_papers_schedule():
    run = build("byol", momentum=0.5)
    method = run.method
    before = copy.deepcopy(list(method.target.parameters()))
    for step in steps(run, 6):
        momentum = byol_momentum(step.number - 1, 6, base=0.5)
        online = [*method.encoder.parameters(), *method.projector.parameters()]
        now = list(method.target.parameters())
        for a, b, c in zip(before, online, now, strict=True):
            torch.testing.assert_close(c, momentum * a + (1 - momentum) * b.detach())
        before = copy.deepcopy(now)


def test_the_target_begins_as_the_online_network_and_gets_no_gradient():
    run = build("byol")
    online = [*run.method.encoder.parameters(), *run.method.projector.parameters()]
    for a, b in zip(run.method.target.parameters(), online, strict=True):
        assert torch.equal(a, b)
    run.method.train()(next(stream(run)))["regression"].backward()
    assert all(p.grad is None for p in run.method.target.parameters())
    assert all(p.grad is not None for p in online)


@pytest.mark.parametrize("momentum", [-0.1, 1.1])
def test_a_momentum_outside_zero_to_one_is_refused(momentum):
    with pytest.raises(UserError, match="momentum"):
        BYOL(ResNetNano(channels=1), hidden=8, dim=4, momentum=momentum)
