import pytest
import torch
from torch import nn

from contract.small import build, stream, train
from methods.toy import Rows, rows
from selftaught.errors import UserError
from selftaught.method import Codes, Reconstructs, Samples, ViewBatch
from selftaught.methods.aae import AAE
from selftaught.nn.adversarial import Prior


def method(**more):
    """Rows of six numbers with codes of three."""
    torch.manual_seed(0)
    decoder = nn.Sequential(nn.Linear(3, 6))
    return AAE(Rows(6, 5), decoder, Prior(3, "normal"), hidden=16, **more).double()


def reached(players, term, batch):
    players.zero_grad(set_to_none=True)
    torch.manual_seed(0)
    players(batch)[term].backward()
    return {n.split(".")[0] for n, p in players.named_parameters() if p.grad is not None}


def test_each_term_reaches_its_own_players_only():
    players, batch = method(), rows(8, views=1)
    assert reached(players, "reconstruction", batch) == {"encoder", "head", "decoder"}
    assert reached(players, "critic", batch) == {"critic"}
    assert reached(players, "encoder", batch) == {"encoder", "head"}


def test_the_terms_are_those_of_the_paper():
    players, batch = method(weight=0.25), rows(8, views=1)
    (x,) = batch.views
    torch.manual_seed(0)
    terms = players(batch)
    torch.manual_seed(0)
    drawn = players.critic(players.prior(8, x)).sigmoid()
    found = players.critic(players.code(x)).sigmoid()
    critic = -drawn.log().mean() - (1 - found).log().mean()
    error = (players.decode(players.code(x)) - x).square().mean()
    assert terms["critic"].item() == pytest.approx(critic.item())
    assert terms["encoder"].item() == pytest.approx(-0.25 * found.log().mean().item())
    assert terms["reconstruction"].item() == pytest.approx(error.item())


def test_codes_become_like_the_prior():
    """Of points on a line, whose codes begin far from it; and the points are still told apart."""
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(2, 32), nn.ReLU())
    encoder.dim = 32
    players = AAE(encoder, nn.Linear(1, 2), Prior(1, "normal"), hidden=32)
    nn.init.constant_(players.head.bias, 3.0)
    optimizer = torch.optim.Adam(players.parameters(), lr=2e-3, betas=(0.5, 0.999))

    def points(count):
        return (3.5 * torch.rand(count, 1) - 1.75) * torch.tensor([1.0, -0.5])

    for _ in range(600):
        optimizer.zero_grad()
        sum(players(ViewBatch((points(128),), torch.arange(128))).values()).backward()
        optimizer.step()
    with torch.no_grad():
        code = players.code(points(2000))
        found = players.pictures(points(2000))
    assert code.mean().abs().item() < 0.3
    assert code.std().item() == pytest.approx(1, abs=0.3)
    error = (found["reconstruction"] - found["seen"]).square().mean()
    assert error < 0.2 * found["seen"].var(dim=0).mean()


def test_images_codes_samples_and_reconstructions():
    run = build("aae")
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


@pytest.mark.parametrize(
    ("setting", "said"),
    [({"dim": 0}, "--dim"), ({"spread": 0.0}, "--spread"), ({"weight": 0.0}, "--weight")],
)
def test_settings_that_cannot_be_are_refused(setting, said):
    with pytest.raises(UserError, match=said):
        build("aae", **setting)
