import pytest
import torch
from torch import nn

from selftaught import dist
from selftaught.errors import UserError
from selftaught.nn.adversarial import DCGANCritic, PairCritic, Prior, aside, diversity, frozen
from selftaught.nn.encoders import build

# Players that hold still


def test_gradients_reach_the_inputs_and_not_the_parameters():
    critic = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    x = torch.randn(5, 3, requires_grad=True)
    frozen(critic, x).sum().backward()
    assert all(p.grad is None for p in critic.parameters())
    held = x.grad
    x.grad = None
    critic(x).sum().backward()
    assert torch.equal(x.grad, held)
    assert all(p.grad is not None for p in critic.parameters())


@pytest.mark.parametrize("function", [aside, frozen])
def test_running_statistics_stay_and_outputs_are_those_of_any_forward(function):
    one, two = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    x = torch.randn(8, 3)
    assert torch.equal(function(one, x), two(x))
    assert not torch.equal(one.running_mean, two.running_mean)
    assert torch.equal(one.running_mean, torch.zeros(3))
    assert torch.equal(one.running_var, torch.ones(3))
    assert one.num_batches_tracked == 0


def test_what_is_seen_aside_is_learnt_from():
    layer = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    aside(layer, torch.randn(8, 3)).square().sum().backward()
    assert all(p.grad is not None for p in layer.parameters())


# The prior


@pytest.mark.parametrize(
    ("distribution", "scale", "deviation"),
    [("uniform", 1.0, 3**-0.5), ("normal", 1.0, 1.0), ("normal", 5.0, 5.0)],
)
def test_codes_have_the_distribution(distribution, scale, deviation):
    torch.manual_seed(0)
    z = Prior(4, distribution, scale)(5000, torch.zeros(()))
    assert z.shape == (5000, 4)
    assert z.mean().item() == pytest.approx(0, abs=0.05 * scale)
    assert z.std().item() == pytest.approx(deviation, rel=0.03)
    assert (z.abs().max() <= 1) == (distribution == "uniform")


def test_codes_are_drawn_for_the_global_batch(monkeypatch):
    torch.manual_seed(0)
    everything = Prior(3)(8, torch.zeros((), dtype=torch.float64))
    assert everything.dtype == torch.float64
    monkeypatch.setattr(dist, "world_size", lambda: 2)
    monkeypatch.setattr(dist, "rank", lambda: 1)
    torch.manual_seed(0)
    assert torch.equal(Prior(3)(4, everything), everything[4:])


def test_any_numbers_are_bounded_as_the_uniform_prior_is_and_stay_where_it_is_normal():
    numbers = torch.tensor([[-50.0, 0.0, 50.0]])
    assert Prior(3, "uniform", 2.0).bound(numbers).tolist() == [[-2.0, 0.0, 2.0]]
    assert torch.equal(Prior(3, "normal").bound(numbers), numbers)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [((0,), "--dim"), ((3, "cauchy"), "--prior"), ((3, "normal", 0.0), "--spread")],
)
def test_a_prior_that_is_none_is_refused(arguments, said):
    with pytest.raises(UserError, match=said):
        Prior(*arguments)


# Critics


@pytest.mark.parametrize(("size", "side", "dim"), [(8, 4, 64), (28, 3, 256), (64, 4, 512)])
def test_the_critic_of_dcgan_halves_the_image_and_doubles_its_channels(size, side, dim):
    critic = build("dcgan", channels=3, size=size)
    x = torch.randn(2, 3, size, size)
    assert critic.maps(x).shape == (2, dim, side, side)
    assert critic(x).shape == (2, critic.dim)
    norms = [m for m in critic.modules() if isinstance(m, nn.BatchNorm2d)]
    convolutions = [m for m in critic.modules() if isinstance(m, nn.Conv2d)]
    assert len(norms) == len(convolutions) - 1, "none after the first layer"
    weights = torch.cat([c.weight.flatten() for c in convolutions])
    assert weights.std().item() == pytest.approx(0.02, rel=0.05)


@pytest.mark.parametrize("size", range(8, 40))
def test_the_critic_of_dcgan_takes_images_of_any_side(size):
    critic = DCGANCritic(channels=1, size=size, width=2)
    assert critic(torch.randn(2, 1, size, size)).shape == (2, critic.dim)


def test_a_pair_is_scored_by_both_of_its_halves():
    critic = PairCritic(DCGANCritic(channels=1, size=8, width=4), 3, hidden=6).eval()
    x, z = torch.randn(5, 1, 8, 8), torch.randn(5, 3)
    score = critic(x, z)
    assert score.shape == (5,)
    assert (critic(x.flip(0), z) != score)[:2].all()
    assert (critic(x, z.flip(0)) != score)[:2].all()


def test_a_critic_of_pairs_without_units_is_refused():
    with pytest.raises(UserError, match="at least 1"):
        PairCritic(DCGANCritic(channels=1, size=8, width=4), 3, hidden=0)


# Diversity


def test_images_are_as_diverse_as_themselves_and_one_image_is_not():
    x = torch.randn(20, 1, 8, 8)
    assert diversity(x, x) == pytest.approx(1)
    assert diversity(0.5 * x, x) == pytest.approx(0.5)
    assert diversity(x[:1].expand(20, -1, -1, -1), x) == pytest.approx(0, abs=1e-3)


def test_a_few_images_again_and_again_are_not_diverse():
    x = torch.randn(20, 1, 8, 8)
    assert diversity(x[:4].repeat(5, 1, 1, 1), x) == pytest.approx(0, abs=1e-3)


def test_data_that_are_all_the_same_give_a_number():
    assert diversity(torch.ones(4, 1, 2, 2), torch.ones(4, 1, 2, 2)) == 0
