import dataclasses
import math

import pytest
import torch
from torch import nn

from contract.small import PIXELS, build, papers, stream, train
from methods.toy import Rows, rows
from selftaught.errors import UserError
from selftaught.method import Samples, ViewBatch
from selftaught.methods.gan import GAN
from selftaught.nn.adversarial import Prior


def method(seed=0):
    """Rows of six numbers, made from three."""
    torch.manual_seed(seed)
    return GAN(Rows(6, 5), nn.Sequential(nn.Linear(3, 6)), Prior(3)).double()


def gradients(method, term, batch):
    """Which parts of the method a term reaches, by their gradients."""
    method.zero_grad(set_to_none=True)
    torch.manual_seed(0)
    method(batch)[term].backward()
    return {n.split(".")[0]: p.grad for n, p in method.named_parameters() if p.grad is not None}


def test_each_term_reaches_its_own_player_only():
    players = method()
    assert gradients(players, "critic", rows(8, views=1)).keys() == {"encoder", "score"}
    assert gradients(players, "generator", rows(8, views=1)).keys() == {"generator"}


def test_the_terms_are_those_of_the_scores():
    players, batch = method(), rows(8, views=1)
    torch.manual_seed(0)
    terms = players(batch)
    torch.manual_seed(0)
    fake = players.generator(players.prior(8, batch.views[0]))
    real, made = (players.score(players.encoder(x)).sigmoid() for x in (batch.views[0], fake))
    expected = -real.log().mean() - (1 - made).log().mean()
    assert terms["critic"].item() == pytest.approx(expected.item())
    assert terms["generator"].item() == pytest.approx(-made.log().mean().item())


def test_the_generator_follows_its_term_towards_higher_scores():
    players, batch = method(), rows(64, views=1)
    gradients(players, "generator", batch)
    z = players.prior(64, batch.views[0])
    before = players.score(players.encoder(players.generator(z))).mean()
    with torch.no_grad():
        for p in players.generator.parameters():
            p -= 0.01 * p.grad
    assert players.score(players.encoder(players.generator(z))).mean() > before


def test_images_like_the_real_ones_cost_a_critic_without_an_opinion_twice_the_log_of_two():
    players, batch = method(), rows(8, views=1)
    players.generator = nn.Identity()
    players.prior.forward = lambda count, like: like  # what is made is what is real
    with torch.no_grad():
        assert players(batch)["critic"].item() > 2 * math.log(2)
        for p in players.score.parameters():
            p.zero_()
    assert players(batch)["critic"].item() == pytest.approx(2 * math.log(2))


def test_running_statistics_are_those_of_real_images():
    run = build("gan")
    real, whole = build("gan").method.encoder.train(), run.method
    batch = next(stream(run))
    real(batch.views[0])
    whole.train()(batch)
    for name, value in whole.encoder.named_buffers():
        assert torch.equal(value, dict(real.named_buffers())[name]), name


def test_samples_are_images_between_black_and_white():
    run = build("gan")
    assert isinstance(run.method, Samples)
    train(run, 3)
    with torch.no_grad():
        x = run.method.eval().sample(5)
    assert x.shape == (5, 1, 16, 16)
    pixels = x * 0.25 + 0.5  # by the mean and the deviation of the small data
    assert pixels.min() >= 0
    assert pixels.max() <= 1
    assert pixels.std() > 0


def test_samples_come_to_lie_where_the_data_are():
    """Points around (2, -1), from a generator that begins at the origin."""
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(2, 32), nn.LeakyReLU(0.2), nn.Linear(32, 8), nn.LeakyReLU(0.2))
    critic.dim = 8
    players = GAN(critic, nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 2)), Prior(4))
    optimizer = torch.optim.Adam(players.parameters(), lr=3e-3, betas=(0.5, 0.999))
    centre = torch.tensor([2.0, -1.0])

    def away():
        return (players.sample(512).mean(dim=0) - centre).norm().item()

    before = away()
    for _ in range(300):
        x = centre + 0.3 * torch.randn(64, 2)
        optimizer.zero_grad()
        sum(players(ViewBatch((x,), torch.arange(64))).values()).backward()
        optimizer.step()
    assert before == pytest.approx(5**0.5, abs=0.1)
    assert away() < 0.25 * before


def test_the_papers_critic_is_as_wide_as_its_generator():
    """dcgan_code, train_uncond_dcgan.py: ngf = ndf = 128, l2 = 1e-5 of all, a constant rate."""
    run = papers("gan", pixels=dataclasses.replace(PIXELS, channels=1, size=64))
    critic = [m.out_channels for m in run.method.encoder.modules() if isinstance(m, nn.Conv2d)]
    assert critic == [128, 256, 512, 1024]
    generator = [
        m.in_channels for m in run.method.generator.modules() if isinstance(m, nn.ConvTranspose2d)
    ]
    assert generator == critic[::-1]
    assert isinstance(run.optimizer, torch.optim.Adam)
    assert not isinstance(run.optimizer, torch.optim.AdamW)
    assert {group["weight_decay"] for group in run.optimizer.param_groups} == {1e-5}
    assert {run.schedule(share / 10) for share in range(10)} == {1.0}


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(UserError, match="--dim"):
        build("gan", dim=0)
    with pytest.raises(UserError, match="--prior"):
        build("gan", prior="cauchy")
    with pytest.raises(UserError, match="1 or more"):
        build("gan", width=0)
    with pytest.raises(UserError, match="critic of 0"):
        build("gan", critic_width=0)
