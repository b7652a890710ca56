import math

import pytest
import torch
from torch import nn

from contract.small import build, papers, stream
from references.pretext import rotation_loss
from selftaught.errors import UserError
from selftaught.method import ViewBatch
from selftaught.methods import Rotation
from selftaught.nn.residual import ResNetNano
from selftaught.views.rotate import TURNS


class Pixels(nn.Module):
    """Looks at every pixel of an image in its place."""

    def __init__(self, side=5, dim=6):
        super().__init__()
        self.linear = nn.Linear(side**2, dim)
        self.dim = dim

    def forward(self, x):
        return self.linear(x.flatten(1))


class Invariant(nn.Module):
    """The sum over all rotations of what another encoder makes of them."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder
        self.dim = encoder.dim

    def forward(self, x):
        return sum(self.encoder(torch.rot90(x, k, (2, 3))) for k in range(TURNS))


def turned(n=6, side=5, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 1, side, side, generator=g, dtype=torch.float64)
    return ViewBatch(tuple(torch.rot90(x, k, (2, 3)) for k in range(TURNS)), torch.arange(n))


def trained(encoder, steps=60):
    torch.manual_seed(0)
    method, batch = Rotation(encoder).double(), turned()
    optimizer = torch.optim.Adam(method.parameters(), lr=0.05)
    losses = []
    for _ in range(steps):
        loss = method(batch)["rotation"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_loss_equals_the_reference_one_image_at_a_time():
    torch.manual_seed(0)
    method, batch = Rotation(Pixels()).double(), turned()
    scores = [
        torch.cat([method.classifier(method.encoder(x[[i]])) for i in range(len(x))])
        for x in batch.views
    ]
    expected = rotation_loss(torch.stack(scores).detach().numpy())
    assert method(batch)["rotation"].item() == pytest.approx(expected, rel=1e-9)


def test_an_encoder_that_rotations_do_not_change_is_never_better_than_chance():
    assert min(trained(Invariant(Pixels()))) >= math.log(TURNS) - 1e-12
    assert trained(Pixels())[-1] < 0.1  # while one that sees them learns


def test_all_rotations_share_one_batch_norm():
    torch.manual_seed(0)
    method, batch = Rotation(ResNetNano(channels=1)).double().train(), turned(side=8)
    seen = []
    method.encoder.norm.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    method(batch)
    assert seen == [TURNS * len(batch.index)]


def test_the_recipe_shows_four_exact_rotations():
    run = build("rotation")
    views = next(stream(run)).views
    assert len(views) == TURNS
    for k, view in enumerate(views):
        assert torch.equal(view, torch.rot90(views[0], k, (2, 3)))


def test_any_encoder_serves():
    run = build("rotation", encoder="vit-nano")
    assert torch.isfinite(run.method(next(stream(run)))["rotation"])


@pytest.mark.parametrize("views", [2, 5])
def test_a_batch_without_its_rotations_is_refused(views):
    batch = turned()
    with pytest.raises(UserError, match="4 rotations"):
        Rotation(Pixels())(ViewBatch((batch.views * 2)[:views], batch.index))


def test_images_that_are_not_square_are_refused():
    x = torch.zeros(2, 1, 5, 6)
    views = tuple(torch.rot90(x, k, (2, 3)) for k in range(TURNS))
    with pytest.raises(UserError, match="square"):
        Rotation(Pixels())(ViewBatch(views, torch.arange(2)))


def test_the_papers_rate_is_that_of_the_authors_table():
    """ImageNet_RotNet_AlexNet.py: LUT_lr, 0.01 up to epoch 15, then 30, 45 and 50."""
    run = papers("rotation")
    assert run.epochs == 50
    rates = [run.optimizer.param_groups[0]["lr"] * run.schedule(e / 50) for e in range(50)]
    table = [(15, 0.01), (30, 0.001), (45, 0.0001), (50, 0.00001)]
    for epoch, rate in enumerate(rates):
        assert rate == pytest.approx(next(lr for last, lr in table if last > epoch))
