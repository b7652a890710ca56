import math

import pytest
import torch
from torch import nn

from contract.small import build, papers, stream, train
from methods.toy import Rows, rows
from selftaught.errors import UserError
from selftaught.method import Codes, Reconstructs, Samples
from selftaught.methods.bigan import BiGAN
from selftaught.nn.adversarial import Prior


class Pairs(nn.Module):
    """A linear critic of rows and codes."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6 + 3, 1)

    def forward(self, x, z):
        return self.linear(torch.cat([x, z], dim=1)).squeeze(1)


def method():
    """Rows of six numbers with codes of three."""
    torch.manual_seed(0)
    return BiGAN(Rows(6, 5), nn.Sequential(nn.Linear(3, 6)), Pairs(), Prior(3)).double()


def reached(players, term, batch):
    players.zero_grad(set_to_none=True)
    torch.manual_seed(0)
    players(batch)[term].backward()
    return {n.split(".")[0] for n, p in players.named_parameters() if p.grad is not None}


def test_each_term_reaches_its_own_player_only():
    players, batch = method(), rows(8, views=1)
    assert reached(players, "critic", batch) == {"critic"}
    assert reached(players, "generator", batch) == {"generator"}
    assert reached(players, "encoder", batch) == {"encoder", "head"}


def test_the_terms_are_those_of_the_scores_and_labels_are_exchanged():
    players, batch = method(), rows(8, views=1)
    (x,) = batch.views
    torch.manual_seed(0)
    terms = players(batch)
    torch.manual_seed(0)
    z = players.prior(8, x)
    real = players.critic(x, players.code(x)).sigmoid()
    fake = players.critic(players.decode(z), z).sigmoid()
    critic = -real.log().mean() - (1 - fake).log().mean()
    others = -(1 - real).log().mean() - fake.log().mean()
    assert terms["critic"].item() == pytest.approx(critic.item())
    assert (terms["generator"] + terms["encoder"]).item() == pytest.approx(others.item())


@pytest.mark.parametrize(("term", "sign"), [("generator", 1), ("encoder", -1)])
def test_the_generator_raises_its_scores_and_the_encoder_lowers_those_of_real_pairs(term, sign):
    players, batch = method(), rows(64, views=1)
    (x,) = batch.views
    z = players.prior(64, x)

    def score():
        pair = (players.decode(z), z) if term == "generator" else (x, players.code(x))
        return players.critic(*pair).mean().item()

    reached(players, term, batch)
    before = score()
    with torch.no_grad():
        for p in players.parameters():
            if p.grad is not None:
                p -= 0.01 * p.grad
    assert sign * (score() - before) > 0


def test_images_codes_samples_and_reconstructions():
    run = build("bigan")
    method = run.method
    assert isinstance(method, Samples)
    assert isinstance(method, Codes)
    assert isinstance(method, Reconstructs)
    train(run, 3)
    (x,) = next(stream(run)).views
    method.eval()
    with torch.no_grad():
        code, found, drawn = method.code(x), method.pictures(x), method.sample(5)
        assert code.shape == (len(x), 8)
        assert torch.equal(found["seen"], x)
        assert list(found)[-1] == "reconstruction"
        assert torch.equal(found["reconstruction"], method.decode(code))
    assert drawn.shape == (5, 1, 16, 16)
    for images in (drawn, found["reconstruction"]):
        pixels = images * 0.25 + 0.5  # by the mean and the deviation of the small data
        assert pixels.min() >= 0
        assert pixels.max() <= 1


def test_codes_lie_within_the_prior_so_that_no_code_gives_its_pair_away():
    players = method()
    with torch.no_grad():
        players.head.weight.mul_(1e3)
    codes = players.code(rows(8, views=1).views[0])
    assert codes.abs().max() <= 1
    assert codes.abs().max() > 0.99


def test_settings_that_cannot_be_are_refused():
    with pytest.raises(UserError, match="--dim"):
        build("bigan", dim=0)
    with pytest.raises(UserError, match="at least 1"):
        build("bigan", hidden=0)


def test_the_papers_rate_is_constant_and_then_falls_as_an_exponential():
    """train_gan.py: 50 epochs, then 50 in which the logarithm falls in a line to a hundredth."""
    run = papers("bigan")
    assert run.epochs == 100
    assert isinstance(run.optimizer, torch.optim.Adam)
    assert not isinstance(run.optimizer, torch.optim.AdamW)
    for share in range(200):
        done = share / 200
        line = min(0.0, -2 * (done - 0.5) / 0.5)
        assert math.log10(run.schedule(done)) == pytest.approx(line, abs=0.1001)
    assert run.schedule(0.999) == pytest.approx(0.01, rel=0.01)
