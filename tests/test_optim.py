import numpy as np
import pytest
import torch
from torch import nn

from references.optim import larc_step, lars_step
from references.optim import warmup_cosine as reference
from selftaught.errors import UserError
from selftaught.optim import LARC, LARS, Schedule, bounded, groups, layered


@pytest.mark.parametrize("warmup", [0, 10, 25])
def test_the_schedule_equals_the_reference(warmup):
    ours = [Schedule(warmup / 100)(step / 100) for step in range(100)]
    expected = [reference(step, 100, warmup, 1.0) for step in range(100)]
    np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-12)


def test_a_cosine_may_end_above_zero():
    schedule = Schedule(0.0, last=0.25)
    assert schedule(0.0) == 1
    assert schedule(0.5) == pytest.approx(0.625)
    assert schedule(1 - 1e-9) == pytest.approx(0.25)


def test_a_warm_up_may_begin_above_zero():
    schedule = Schedule(0.5, first=0.2)
    assert [schedule(progress) for progress in (0, 0.25, 0.5)] == pytest.approx([0.2, 0.6, 1])


def test_a_constant_rate_falls_at_its_drops():
    schedule = Schedule(0.1, cosine=False, drops=(0.6, 0.8), drop=0.1)
    found = [schedule(progress) for progress in (0.05, 0.1, 0.59, 0.6, 0.79, 0.8, 0.99)]
    assert found == pytest.approx([0.5, 1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"warmup": 1.0}, "--warmup"),
        ({"first": 1.5}, "--first-lr"),
        ({"last": -0.1}, "--last-lr"),
        ({"drops": (0.0,)}, "--drops"),
        ({"drop": 1.0}, "--drop"),
    ],
)
def test_schedules_that_cannot_be_are_refused(settings, named):
    with pytest.raises(UserError, match=named):
        Schedule(**settings)


class Parts(nn.Module):
    """Two parts and a token, with gradients of norms 5, 13 and 2; one tensor has none."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(1))
        self.encoder, self.head = nn.Linear(1, 1), nn.Linear(1, 1)
        self.frozen = nn.Linear(1, 1).requires_grad_(False)
        slopes = [2.0, 3.0, 4.0, 5.0, 12.0]
        for p, slope in zip(self.parameters(), slopes, strict=False):
            p.grad = torch.full_like(p, slope)


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("whole", [share * 4 / 198**0.5 for share in (2, 3, 4, 5, 12)]),
        ("part", [2, 12 / 5, 16 / 5, 20 / 13, 48 / 13]),
        ("tensor", [2, 3, 4, 4, 4]),
    ],
)
def test_the_gradient_is_bounded_by(by, expected):
    module = Parts()
    assert bounded(module, 4.0, by).item() == pytest.approx(198**0.5)
    found = [p.grad.item() for p in module.parameters() if p.grad is not None]
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("by", ["whole", "part", "tensor"])
def test_a_gradient_that_is_not_finite_shows_in_its_norm(by):
    module = Parts()
    module.head.bias.grad.fill_(torch.nan)
    assert not bounded(module, 4.0, by).isfinite()


@pytest.mark.parametrize("weight_decay", [0.0, 1e-2])
@pytest.mark.parametrize("adapt", [True, False])
def test_lars_equals_the_reference(weight_decay, adapt):
    g = torch.Generator().manual_seed(0)
    p = nn.Parameter(torch.randn(3, 4, generator=g, dtype=torch.float64))
    decay = weight_decay if adapt else 0.0
    optimizer = LARS([{"params": [p], "weight_decay": decay, "adapt": adapt}], lr=0.3)
    weight, velocity = p.detach().numpy().copy(), np.zeros((3, 4))
    for _ in range(4):
        p.grad = torch.randn(3, 4, generator=g, dtype=torch.float64)
        weight, velocity = lars_step(
            weight,
            p.grad.numpy(),
            velocity,
            learning_rate=0.3,
            weight_decay=weight_decay,
            excluded=not adapt,
        )
        optimizer.step()
    np.testing.assert_allclose(p.detach().numpy(), weight, rtol=1e-9)


@pytest.mark.parametrize("weight_decay", [0.0, 1e-2])
@pytest.mark.parametrize("zero", [None, "weight", "gradient"])
def test_larc_equals_the_reference(weight_decay, zero):
    g = torch.Generator().manual_seed(0)
    p = nn.Parameter(torch.randn(5, generator=g, dtype=torch.float64) * (zero != "weight"))
    group = {"params": [p], "weight_decay": weight_decay, "adapt": False}
    optimizer = LARC([group], lr=0.3)
    weight, velocity = p.detach().numpy().copy(), np.zeros(5)
    for _ in range(4):
        p.grad = torch.randn(5, generator=g, dtype=torch.float64) * (zero != "gradient")
        weight, velocity = larc_step(
            weight, p.grad.numpy(), velocity, learning_rate=0.3, weight_decay=weight_decay
        )
        optimizer.step()
    np.testing.assert_allclose(p.detach().numpy(), weight, rtol=1e-9)


@pytest.mark.parametrize("kind", [LARS, LARC])
def test_a_zero_weight_stays_finite(kind):
    p = nn.Parameter(torch.zeros(2, 2))
    p.grad = torch.ones(2, 2)
    kind([p], lr=0.1).step()
    assert torch.isfinite(p).all()


def test_groups_cover_every_trainable_parameter_once():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 2))
    net[2].bias.requires_grad_(False)
    net.token = nn.Parameter(torch.zeros(1, 1, 4))
    weights, others = groups(net, weight_decay=0.1)
    assert {id(p) for p in weights["params"]} == {id(net[0].weight), id(net[2].weight)}
    assert {id(p) for p in others["params"]} == {
        id(p) for p in (net[0].bias, net[1].weight, net[1].bias, net.token)
    }
    assert weights["weight_decay"] == 0.1
    assert others["weight_decay"] == 0


def test_biases_and_norms_may_decay_and_have_a_rate_of_their_own():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    weights, others = groups(net, weight_decay=0.1, decay_all=True, lr=2.0, bias_lr=0.25)
    assert weights["weight_decay"] == others["weight_decay"] == 0.1
    assert "lr" not in weights
    assert others["lr"] == 0.5


def test_constant_modules_have_groups_of_their_own():
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2), nn.Linear(2, 2))
    net[3].bias.requires_grad_(False)
    found = groups(net, weight_decay=0.1, constant=[net[1], net[3]])
    kinds = [(g.get("constant", False), g["adapt"], g["weight_decay"]) for g in found]
    assert kinds == [(False, True, 0.1), (False, False, 0.0), (True, True, 0.1), (True, False, 0.0)]
    expected = [
        [net[0].weight, net[2].weight],
        [net[0].bias, net[2].bias],
        [net[3].weight],
        [net[1].weight, net[1].bias],
    ]
    assert [[id(p) for p in g["params"]] for g in found] == [[id(p) for p in e] for e in expected]


def test_without_constant_modules_no_group_is_constant():
    found = groups(nn.Linear(2, 2), weight_decay=0.1)
    assert len(found) == 2
    assert not any("constant" in g for g in found)


def test_learning_rates_fall_from_output_to_input():
    stem, block, head = torch.nn.Linear(2, 3), torch.nn.Linear(3, 3), torch.nn.Linear(3, 2)
    encoder = torch.nn.Sequential(stem, block)
    encoder.token = torch.nn.Parameter(torch.zeros(3))
    module = torch.nn.Sequential(encoder, head)
    options = {"lr": 1.0, "weight_decay": 0.1, "decay": 0.5}
    found = {
        id(p): (group["lr"], group["weight_decay"])
        for group in layered(module, encoder, [stem, block], **options)
        for p in group["params"]
    }
    assert found == {
        id(encoder.token): (0.25, 0.0),
        id(stem.weight): (0.25, 0.1),
        id(stem.bias): (0.25, 0.0),
        id(block.weight): (0.5, 0.1),
        id(block.bias): (0.5, 0.0),
        id(head.weight): (1.0, 0.1),
        id(head.bias): (1.0, 0.0),
    }


def test_the_last_norm_counts_with_the_head_and_the_last_block_is_one_below():
    """As `param_groups_lrd` of MAE's code has it."""
    stem, block, norm = torch.nn.Linear(2, 3), torch.nn.Linear(3, 3), torch.nn.LayerNorm(3)
    encoder, head = torch.nn.Sequential(stem, block, norm), torch.nn.Linear(3, 2)
    module = torch.nn.Sequential(encoder, head)
    options = {"lr": 1.0, "weight_decay": 0.1, "decay": 0.5}
    found = {
        id(p): group["lr"]
        for group in layered(module, encoder, [stem, block, norm], **options)
        for p in group["params"]
    }
    layers = {stem: 0.25, block: 0.5, norm: 1.0, head: 1.0}
    assert found == {id(p): rate for layer, rate in layers.items() for p in layer.parameters()}
