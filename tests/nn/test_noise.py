import pytest
import torch

from selftaught import dist
from selftaught.errors import UserError
from selftaught.nn.noise import Gaussian, Masking, SaltAndPepper, normal

BLACK, WHITE = (-1.0, -2.0), (3.0, 4.0)


def images(n=50, size=10):
    """No number of them is black or white."""
    g = torch.Generator().manual_seed(0)
    return torch.rand(n, 2, size, size, generator=g) * 0.5


def where(x, value):
    return x == torch.tensor(value)[:, None, None]


@pytest.mark.parametrize("ratio", [0.0, 0.1, 0.5, 1.0])
def test_masking_blackens_exactly_the_share_asked_for_and_nothing_else(ratio):
    x = images()
    y = Masking(ratio, BLACK)(x)
    assert (where(y, BLACK).flatten(1).sum(dim=1) == round(200 * ratio)).all()
    assert torch.equal(y[~where(y, BLACK)], x[~where(y, BLACK)])


def test_every_number_is_masked_as_often_and_channels_apart():
    torch.manual_seed(0)
    x = images(2000, 4)
    masked = where(Masking(0.25, BLACK)(x), BLACK)
    often = masked.float().mean(dim=0)
    assert (often - 0.25).abs().max() < 0.05  # 5 standard deviations
    both = masked.all(dim=1).float().mean()
    assert both == pytest.approx(8 * 7 / (32 * 31), abs=0.01)


def test_salt_and_pepper_are_even_and_the_share_asked_for():
    torch.manual_seed(0)
    x = images(500)
    y = SaltAndPepper(0.3, BLACK, WHITE)(x)
    black, white = where(y, BLACK), where(y, WHITE)
    assert ((black | white).flatten(1).sum(dim=1) == 60).all()
    assert black.sum() / (black | white).sum() == pytest.approx(0.5, abs=0.02)
    assert torch.equal(y[~(black | white)], x[~(black | white)])


def test_gaussian_noise_has_the_deviation_asked_for():
    torch.manual_seed(0)
    x = images(500)
    noise = Gaussian(0.3)(x) - x
    assert noise.mean().abs() < 0.005
    assert noise.std() == pytest.approx(0.3, rel=0.02)
    assert (noise / 0.3).pow(4).mean() == pytest.approx(3, rel=0.05)  # as of a normal one


@pytest.mark.parametrize(
    "corruption", [Masking(0.3, BLACK), SaltAndPepper(0.3, BLACK, WHITE), Gaussian(0.3), normal]
)
def test_two_processes_draw_what_one_draws(corruption, monkeypatch):
    x = images(6)
    torch.manual_seed(1)
    whole = corruption(x)
    monkeypatch.setattr(dist, "world_size", lambda: 2)
    parts = []
    for rank in range(2):
        monkeypatch.setattr(dist, "rank", lambda rank=rank: rank)
        torch.manual_seed(1)
        parts.append(corruption(x[3 * rank : 3 * rank + 3]))
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(corruption(x[:3]), parts[1])  # drawn anew each time


@pytest.mark.parametrize(
    "corruption", [Masking(0.3, BLACK), SaltAndPepper(0.3, BLACK, WHITE), Gaussian(0.3)]
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_the_type_stays(corruption, dtype):
    assert corruption(images(2).to(dtype)).dtype == dtype
    assert not corruption.state_dict()


@pytest.mark.parametrize("ratio", [-0.1, 1.5])
def test_what_is_no_share_is_one_line(ratio):
    for corruption in (lambda: Masking(ratio, BLACK), lambda: SaltAndPepper(ratio, BLACK, WHITE)):
        with pytest.raises(UserError, match="--ratio"):
            corruption()
    with pytest.raises(UserError, match="--deviation"):
        Gaussian(-0.1)
