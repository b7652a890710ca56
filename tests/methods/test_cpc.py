import pytest
import torch

from contract.small import BATCH, build, stream
from references.instance import cpc_loss
from selftaught.errors import UserError
from selftaught.method import ViewBatch
from selftaught.methods.cpc import CPC
from selftaught.nn.local import PatchGrid
from selftaught.nn.residual import ResNetNano


def grid(size=16, patch=4):
    return PatchGrid(ResNetNano(channels=1, stem=4, widths=(8, 6)), size, patch=patch)


def small(**more):
    torch.manual_seed(0)
    return CPC(grid(), **{"width": 8, "depth": 2, "group": 4, **more}).double()


def test_the_loss_is_the_papers_over_rows_of_the_encoders_own_patches():
    method = small(rows=3)
    x = torch.randn(4, 1, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        loss = method(ViewBatch((x,), torch.arange(4)))["info_nce"].item()
        z = method.encoder.maps(x)
        c = method.context(z)
        # the matrices W_k stand between the patch (rows) and the context (columns)
        weights = {k: w.weight.numpy() for k, w in zip((2, 3, 4), method.predictors, strict=True)}
        z, c = (m.permute(0, 2, 3, 1).numpy() for m in (z, c))
    assert loss == pytest.approx(cpc_loss(z, c, weights), rel=1e-9)


@pytest.mark.parametrize(
    ("first", "rows", "expected"), [(2, 5, [2, 3, 4, 5, 6]), (1, 3, [1, 2, 3]), (6, 9, [6])]
)
def test_the_rows_predicted_are_those_the_grid_has(first, rows, expected):
    method = small(first=first, rows=rows)
    assert method.encoder.grid == 7
    assert list(method.offsets) == expected
    assert len(method.predictors) == len(expected)


def test_a_prediction_cannot_see_the_rows_it_predicts():
    method = small(first=2, rows=1, depth=5)
    x = torch.randn(2, 1, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        before = method.context(method.encoder.maps(x))
        x[:, :, 10:] = 0  # all of the patches of rows 5 and 6, and half of row 4
        after = method.context(method.encoder.maps(x))
    assert torch.equal(before[:, :, :4], after[:, :, :4])
    assert not torch.equal(before[:, :, 5], after[:, :, 5])


def test_a_group_is_a_batch_of_its_own():
    method = small(group=2)
    x = torch.randn(6, 1, 16, 16, dtype=torch.float64)
    with torch.no_grad():
        whole = method(ViewBatch((x,), torch.arange(6)))["info_nce"]
        parts = [method(ViewBatch((p,), torch.arange(2)))["info_nce"] for p in x.split(2)]
    torch.testing.assert_close(whole, torch.stack(parts).mean())


def test_patches_and_contexts_both_learn_from_the_score():
    run = build("cpc")
    run.method.train()(next(stream(run)))["info_nce"].backward()
    parts = (run.method.encoder, run.method.context, run.method.predictors)
    for part in parts:
        assert all(p.grad.abs().sum() > 0 for p in part.parameters())


def test_the_encoder_has_no_batch_norm():
    for module in build("cpc").method.modules():
        assert not isinstance(module, torch.nn.modules.batchnorm._BatchNorm)


def test_an_encoder_without_patches_is_refused():
    with pytest.raises(UserError, match="PatchGrid"):
        CPC(ResNetNano(channels=1))


def test_a_grid_without_a_row_so_far_below_is_refused():
    with pytest.raises(UserError, match="--patch"):
        build("cpc", patch=16)
    with pytest.raises(UserError, match="--first"):
        build("cpc", first=7)


@pytest.mark.parametrize("name", ["first", "rows", "width", "depth", "group"])
def test_numbers_below_one_are_refused(name):
    with pytest.raises(UserError, match=f"--{name}"):
        small(**{name: 0})


def test_a_batch_that_groups_do_not_divide_is_refused():
    with pytest.raises(UserError, match="--group"):
        build("cpc", group=5)
    with pytest.raises(UserError, match="--group"):
        small(group=4)(ViewBatch((torch.zeros(6, 1, 16, 16).double(),), torch.arange(6)))


def test_a_batch_smaller_than_a_group_is_one_group():
    assert build("cpc", group=64).method.group == BATCH
