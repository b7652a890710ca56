import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from contract.small import BATCH, build, stream
from references.distillation import simsiam_loss
from selftaught.method import ViewBatch
from selftaught.methods.byol import BYOL
from selftaught.methods.simsiam import SimSiam
from selftaught.nn.memory import EMA
from selftaught.objectives.contrastive import nt_xent

SMALL = {"hidden": 16, "dim": 6, "bottleneck": 4}


class Flat(nn.Module):
    """The smallest encoder with batch norm."""

    def __init__(self, pixels=12, dim=8):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(pixels, dim), nn.BatchNorm1d(dim), nn.ReLU())
        self.dim = dim

    def forward(self, x):
        return self.layers(x)


def batch(seed=0, n=10, pixels=12):
    g = torch.Generator().manual_seed(seed)
    views = torch.randn(2, n, pixels, generator=g, dtype=torch.float64)
    return ViewBatch(tuple(views), torch.arange(n))


def simsiam(seed=0, **more):
    torch.manual_seed(seed)
    return SimSiam(Flat(), **SMALL | more).double()


def as_byol(method):
    """BYOL with the same networks, a target that follows at once, and its own hyper-parameters."""
    byol = BYOL(copy.deepcopy(method.encoder), hidden=4, dim=4, momentum=0.0).double()
    byol.projector = copy.deepcopy(method.projector)
    byol.predictor = copy.deepcopy(method.predictor)
    byol.target = EMA(byol.encoder, byol.projector)
    return byol


def test_it_is_byol_whose_momentum_is_zero():
    """And whose target is thus the online network under a stop-gradient: 4 + 4 times the loss."""
    one = simsiam()
    other = as_byol(one)
    slow = torch.optim.SGD(one.parameters(), lr=0.4)
    fast = torch.optim.SGD([p for p in other.parameters() if p.requires_grad], lr=0.1)
    for step in range(5):
        losses = []
        for method, optimizer in ((one, slow), (other, fast)):
            optimizer.zero_grad()
            loss = method(batch(step))["regression"]
            loss.backward()
            optimizer.step()
            method.after_step()
            losses.append(loss.item())
        assert losses[1] == pytest.approx(4 + 4 * losses[0], rel=1e-9)
    for name in ("encoder", "projector", "predictor"):
        a, b = getattr(one, name).state_dict(), getattr(other, name).state_dict()
        for key in a:
            torch.testing.assert_close(a[key], b[key], rtol=1e-9, atol=1e-12)


def test_it_is_simclr_without_negatives():
    """NT-Xent less its denominator, the only place where other images come in."""
    method, temperature = simsiam(), 0.2
    method.predictor = nn.Identity()
    ours = method(batch())["regression"]
    z = torch.cat([method.projector(method.encoder(x)) for x in batch().views])
    unit = F.normalize(z, dim=1)
    others = (unit @ unit.T / temperature).fill_diagonal_(float("-inf"))
    positives = nt_xent(*z.chunk(2), temperature) - others.logsumexp(dim=1).mean()
    torch.testing.assert_close(ours, temperature * positives, rtol=1e-9, atol=0)


def test_loss_equals_the_reference():
    method = simsiam()
    z1, z2 = (method.projector(method.encoder(x)) for x in batch().views)
    parts = (method.predictor(z1), method.predictor(z2), z1, z2)
    expected = simsiam_loss(*(x.detach().numpy() for x in parts))
    assert method(batch())["regression"].item() == pytest.approx(expected, rel=1e-9)


def test_the_projection_that_is_predicted_gets_no_gradient():
    """Without a predictor's slope no gradient is left for the encoder."""
    method = simsiam()
    with torch.no_grad():
        method.predictor[-1].weight.zero_()
        method.predictor[-1].bias.fill_(1.0)
    method(batch())["regression"].backward()
    assert all(not p.grad.any() for p in method.encoder.parameters())
    assert method.predictor[-1].bias.grad.any()


def test_three_layers_end_in_a_batch_norm_without_scale_and_the_predictor_in_none():
    method = simsiam()
    linears = [m for m in method.projector if isinstance(m, nn.Linear)]
    assert len(linears) == 3
    assert isinstance(method.projector[-1], nn.BatchNorm1d)
    assert not method.projector[-1].affine
    z = method.projector(method.encoder(batch().views[0]))
    torch.testing.assert_close(z.mean(0), torch.zeros_like(z[0]), rtol=0, atol=1e-9)
    assert [m.out_features for m in method.predictor if isinstance(m, nn.Linear)] == [4, 6]
    assert isinstance(method.predictor[-1], nn.Linear)


def test_the_recipe_holds_the_predictors_learning_rate():
    run = build("simsiam")
    constant = [p for g in run.optimizer.param_groups if g.get("constant") for p in g["params"]]
    assert {id(p) for p in constant} == {id(p) for p in run.method.predictor.parameters()}


def test_the_two_views_have_batch_statistics_of_their_own():
    run = build("simsiam")
    once = next(stream(run))
    loss = run.method.train()(once)["regression"]
    swapped = ViewBatch(once.views[::-1], once.index)
    torch.testing.assert_close(run.method(swapped)["regression"], loss)
    z = run.method.projector(run.method.encoder(once.views[0]))
    assert z.shape == (BATCH, 16)
    assert z.mean(0).abs().max() < 1e-5
