import numpy as np
import pytest
import torch
from torch import nn

from selftaught.errors import UserError
from selftaught.nn.base import Encoder
from selftaught.nn.local import PatchGrid, RowContext, SampleNorm, norm_by_sample
from selftaught.nn.residual import ResNetNano


class Pixels(Encoder):
    """The patch itself as its feature."""

    def __init__(self, count):
        super().__init__()
        self.dim = count

    def forward(self, x):
        return x.flatten(1)


def image(*shape, seed=0):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


# A grid of patches


@pytest.mark.parametrize(("patch", "stride", "grid"), [(4, None, 4), (4, 4, 2), (5, 1, 6)])
def test_patches_are_those_of_the_image(patch, stride, grid):
    encoder = PatchGrid(Pixels(2 * patch**2), 10, patch=patch, stride=stride)
    x = image(3, 2, 10, 10)
    found = encoder.maps(x)
    assert encoder.grid == grid
    assert found.shape == (3, encoder.dim, grid, grid)
    step = stride or patch // 2
    for row in range(grid):
        for column in range(grid):
            top, left = step * row, step * column
            expected = x[:, :, top : top + patch, left : left + patch].flatten(1)
            assert torch.equal(found[:, :, row, column], expected)


def test_the_feature_is_the_mean_over_patches():
    encoder = PatchGrid(Pixels(16), 8, patch=4)
    x = image(2, 1, 8, 8)
    torch.testing.assert_close(encoder(x), encoder.maps(x).flatten(2).mean(2))


@pytest.mark.parametrize("slack", [1, 2, 3])
def test_slack_is_cut_away_at_random_and_padded(slack):
    encoder = PatchGrid(Pixels(64), 16, patch=8, slack=slack).train()
    x = image(40, 1, 16, 16) + 1
    left, before = 8 - slack, slack // 2
    seen = set()
    patches = encoder.maps(x).view(40, 8, 8, 3, 3)
    for i in range(40):
        for row in range(3):
            for column in range(3):
                found = patches[i, :, :, row, column]
                inner = found[before : before + left, before : before + left]
                assert torch.count_nonzero(found) == inner.numel()
                whole = x[i, 0, 4 * row : 4 * row + 8, 4 * column : 4 * column + 8]
                fits = [
                    (dy, dx)
                    for dy in range(slack + 1)
                    for dx in range(slack + 1)
                    if torch.equal(inner, whole[dy : dy + left, dx : dx + left])
                ]
                assert len(fits) == 1
                seen.add(fits[0])
    assert len(seen) == (slack + 1) ** 2


def test_outside_training_the_middle_is_kept():
    encoder = PatchGrid(Pixels(36), 12, patch=6, slack=2).eval()
    x = image(2, 1, 12, 12)
    found = encoder.maps(x).view(2, 6, 6, 3, 3)
    assert torch.equal(found[:, 1:5, 1:5, 1, 2], x[:, 0, 4:8, 7:11])
    assert torch.equal(encoder(x), encoder(x))


def test_no_patch_knows_of_another():
    encoder = PatchGrid(ResNetNano(channels=1, stem=4, widths=(8,)), 12, patch=4, stride=4).train()
    x = image(2, 1, 12, 12)
    before = encoder.maps(x)
    x[0, 0, 5, 5] += 1
    changed = (encoder.maps(x) != before).any(1)  # (B, G, G)
    assert changed.nonzero().tolist() == [[0, 1, 1]]


def test_without_colour_the_encoder_sees_one_channel():
    encoder = PatchGrid(Pixels(16), 8, patch=4, colour=False)
    x = image(2, 3, 8, 8)
    torch.testing.assert_close(encoder(x), encoder(x.mean(1, keepdim=True).expand(-1, 3, -1, -1)))


@pytest.mark.parametrize(
    "settings", [{"patch": 9}, {"patch": 0}, {"patch": 1}, {"patch": 4, "slack": 4}]
)
def test_bad_patches_are_refused(settings):
    with pytest.raises(UserError, match="--patch"):
        PatchGrid(Pixels(1), 8, **settings)


def test_every_batch_norm_is_replaced_with_its_activation():
    class Fused(nn.BatchNorm2d):  # timm's BatchNormAct2d
        def __init__(self, dim):
            super().__init__(dim)
            self.drop, self.act = nn.Identity(), nn.ReLU()

    net = norm_by_sample(nn.Sequential(nn.Sequential(Fused(6)), nn.BatchNorm2d(6)))
    assert [type(m) for m in net.modules() if not list(m.children())].count(nn.BatchNorm2d) == 0
    x = image(3, 6, 5, 5) - 0.5
    wide = x.double().numpy().reshape(3, -1)
    expected = (wide - wide.mean(1, keepdims=True)) / np.sqrt(wide.var(1, keepdims=True) + 1e-5)
    found = net[0](x).detach().numpy().reshape(3, -1)
    np.testing.assert_allclose(found, expected.clip(0), atol=1e-5)
    assert isinstance(net[1], SampleNorm)


@pytest.mark.parametrize("name", ["resnet18", "vit-nano"])
def test_any_encoder_can_be_put_into_a_grid(name):
    from selftaught.nn.encoders import build

    encoder = PatchGrid(build(name, channels=1, size=8), 16, patch=8).eval()
    with torch.no_grad():
        assert encoder.maps(image(2, 1, 16, 16)).shape == (2, encoder.dim, 3, 3)


# Context of the rows above


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_context_sees_its_row_and_those_above_and_nothing_below(depth):
    torch.manual_seed(0)
    context = RowContext(4, width=6, depth=depth).double()
    z = image(1, 4, 6, 7).double().requires_grad_()
    row, column = 3, 3
    context(z)[0, :, row, column].sum().backward()
    seen = z.grad[0].abs().sum(0) > 0  # (R, C)
    expected = torch.zeros(6, 7, dtype=torch.bool)
    expected[row - depth : row + 1, column - depth : column + depth + 1] = True
    assert torch.equal(seen, expected)
