"""What makes Barlow Twins, VICReg, W-MSE and LeJEPA themselves."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from contract.small import PIXELS
from references import information as reference
from selftaught.errors import UserError
from selftaught.method import ViewBatch
from selftaught.methods.barlow_twins import BarlowTwins
from selftaught.methods.lejepa import LeJEPA
from selftaught.methods.vicreg import VICReg
from selftaught.methods.wmse import WMSE
from selftaught.recipes.information import lejepa, wmse
from selftaught.recipes.shared import MultiCrop, Training

B = 16  # samples


class Plain(nn.Module):
    """An encoder of rows of six numbers."""

    dim = 4

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 4)

    def forward(self, x):
        return self.layer(x).tanh()


def made(kind, **options):
    torch.manual_seed(0)
    return kind(Plain(), **{"hidden": 8, "dim": 3, **options}).double().train()


def views(count=2):
    g = torch.Generator().manual_seed(1)
    whole = torch.randn(count, B, 6, generator=g, dtype=torch.float64)
    return ViewBatch(tuple(whole[0] + 0.5 * x for x in whole), torch.arange(B))


def projections(method, batch):
    """What the objective sees, as NumPy arrays."""
    with torch.no_grad():
        return [method.projector(method.encoder(x)).numpy() for x in batch.views]


BOTH = pytest.mark.parametrize("kind", [BarlowTwins, VICReg])


def test_barlow_twins_is_its_loss_of_the_projections():
    method, batch = made(BarlowTwins), views()
    expected = reference.barlow_twins(*projections(method, batch), weight=0.005)
    (loss,) = method(batch).values()
    assert loss.item() == pytest.approx(expected, rel=1e-9)


def test_vicreg_is_its_terms_of_the_projections_with_the_papers_weights():
    method, batch = made(VICReg), views()
    agree, vary, covary = reference.vicreg_terms(*projections(method, batch))
    terms = {name: term.item() for name, term in method(batch).items()}
    assert terms == pytest.approx(
        {"invariance": 25 * agree, "variance": 25 * vary, "covariance": covary}, rel=1e-9
    )
    expected = reference.vicreg(*projections(method, batch))
    assert sum(terms.values()) == pytest.approx(expected, rel=1e-9)


def test_vicreg_with_the_weights_that_the_docstring_names_is_equation_6():
    method, batch = made(VICReg, invariance_weight=25.0 * 3, variance_weight=25.0 * 2), views()
    expected = reference.paper_vicreg(*projections(method, batch))
    assert sum(method(batch).values()).item() == pytest.approx(expected, rel=1e-9)


@BOTH
def test_the_projector_has_two_hidden_layers_and_a_free_output(kind):
    kinds = [type(layer) for layer in made(kind).projector]
    block = [nn.Linear, nn.BatchNorm1d, nn.ReLU]
    assert kinds == block + block + [nn.Linear]


@BOTH
def test_no_gradient_is_stopped_and_the_views_may_be_swapped(kind):
    method, batch = made(kind), views()
    x1, x2 = (x.clone().requires_grad_() for x in batch.views)
    loss = sum(method(ViewBatch((x1, x2), batch.index)).values())
    loss.backward()
    assert x1.grad.abs().max() > 1e-6
    assert x2.grad.abs().max() > 1e-6
    swapped = ViewBatch(batch.views[::-1], batch.index)
    assert sum(method(swapped).values()).item() == pytest.approx(loss.item(), rel=1e-9)
    y2 = x2.detach().requires_grad_()
    sum(method(ViewBatch((y2, x1.detach()), batch.index)).values()).backward()
    torch.testing.assert_close(y2.grad, x2.grad)


def test_a_collapsed_encoder_costs_the_most():
    batch = views()
    for kind, worst in ((BarlowTwins, 3), (VICReg, 25 * 0.99)):
        method = made(kind)
        before = sum(method(batch).values())
        with torch.no_grad():
            method.encoder.layer.weight.zero_()
        collapsed = sum(method(batch).values())
        assert collapsed.item() == pytest.approx(worst, rel=1e-6)
        assert collapsed > before


# W-MSE


def together(method, batch):
    """Projections (V, B, D) of all views at once, as NumPy."""
    with torch.no_grad():
        z = method.projector(torch.cat([method.encoder(x) for x in batch.views]))
    return torch.stack(z.chunk(len(batch.views))).numpy()


@pytest.mark.parametrize(("count", "partitions", "epsilon"), [(2, 1, 0.0), (3, 2, 0.1)])
def test_wmse_is_its_loss_of_the_projections(count, partitions, epsilon):
    method, batch = made(WMSE, sub_batch=8, partitions=partitions, epsilon=epsilon), views(count)
    torch.manual_seed(3)
    orders = np.stack([torch.randperm(B).numpy() for _ in range(partitions)])
    expected = reference.w_mse(together(method, batch), orders, 8, epsilon)
    torch.manual_seed(3)
    (loss,) = method(batch).values()
    assert loss.item() == pytest.approx(expected, rel=1e-9)


def test_wmse_cuts_the_batch_anew_at_each_step():
    batch = views()
    for size, alike in ((8, False), (B, True)):
        method = made(WMSE, sub_batch=size)
        losses = [method(batch)["whitened_regression"].item() for _ in range(2)]
        assert (losses[0] == pytest.approx(losses[1], rel=1e-9)) == alike


def test_wmse_does_not_see_scale_and_shift_so_it_cannot_shrink():
    method, batch = made(WMSE, sub_batch=B), views()
    before = method(batch)["whitened_regression"].item()
    with torch.no_grad():
        method.projector[-1].weight.mul_(1e-3)
        method.projector[-1].bias.add_(5)
    assert method(batch)["whitened_regression"].item() == pytest.approx(before, rel=1e-6)


def test_wmse_of_a_collapsed_projection_is_not_a_number():
    method = made(WMSE, sub_batch=8)
    with torch.no_grad():
        method.projector[-1].weight.zero_()
    assert torch.isnan(method(views())["whitened_regression"])


def test_wmse_stops_no_gradient():
    method, batch = made(WMSE, sub_batch=B), views()
    xs = [x.clone().requires_grad_() for x in batch.views]

    def loss(*xs):
        torch.manual_seed(3)
        return method(ViewBatch(xs, batch.index))["whitened_regression"]

    assert torch.autograd.gradcheck(loss, xs)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_wmse_whitens_in_single_precision(monkeypatch, dtype):
    seen = []
    factor = torch.linalg.cholesky_ex

    def spy(s):
        seen.append(s.dtype)
        return factor(s)

    monkeypatch.setattr(torch.linalg, "cholesky_ex", spy)
    method, batch = made(WMSE, sub_batch=8).float(), views()
    with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
        method(ViewBatch(tuple(x.float() for x in batch.views), batch.index))
    assert seen == [torch.float32]


# LeJEPA


def directions(seed, dim=3, slices=7):
    torch.manual_seed(seed)
    return F.normalize(torch.randn(dim, slices), dim=0).numpy()


@pytest.mark.parametrize(("count", "large"), [(2, 2), (4, 2), (3, 1)])
def test_lejepa_is_its_loss_of_the_projections(count, large):
    method, batch = made(LeJEPA, slices=7, large=large, weight=0.3), views(count)
    z = together(method, batch)
    expected = reference.lejepa(z, large, directions(3), 0.3, **reference.SIGREG_CODE)
    torch.manual_seed(3)
    terms = method(batch)
    assert sum(terms.values()).item() == pytest.approx(expected, rel=1e-9)
    agree = 0.7 * reference.lejepa_prediction(z, large)
    assert terms["prediction"].item() == pytest.approx(agree, rel=1e-9)


def test_lejepa_with_algorithm_1s_knots():
    method, batch = made(LeJEPA, slices=7, weight=0.3, extent=5.0, knots=8), views()
    z = together(method, batch)
    expected = reference.lejepa(z, 2, directions(3), 0.3, **reference.SIGREG_PAPER)
    torch.manual_seed(3)
    assert sum(method(batch).values()).item() == pytest.approx(expected, rel=1e-9)


def test_lejepa_draws_its_directions_at_each_step():
    method, batch = made(LeJEPA, slices=7), views()
    one, other = method(batch), method(batch)
    assert one["prediction"] == other["prediction"]
    assert abs(one["sigreg"] - other["sigreg"]) > 1e-3 * one["sigreg"]


def test_lejepa_has_no_teacher_and_stops_no_gradient():
    method, batch = made(LeJEPA, slices=7, large=2), views(3)
    assert all(p.requires_grad for p in method.parameters())
    assert {name.rpartition(".")[2] for name in method.state_dict()} == {
        *("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }
    xs = [x.clone().requires_grad_() for x in batch.views]

    def loss(*xs):
        torch.manual_seed(3)
        return sum(method(ViewBatch(xs, batch.index)).values())

    assert torch.autograd.gradcheck(loss, xs)


def test_the_one_weight_of_lejepa_trades_its_terms():
    batch, found = views(), {}
    for weight in (0.0, 0.25, 1.0):
        torch.manual_seed(3)
        method = made(LeJEPA, slices=7, weight=weight)
        torch.manual_seed(3)
        found[weight] = {name: term.item() for name, term in method(batch).items()}
    assert found[0.0]["sigreg"] == found[1.0]["prediction"] == 0
    assert found[0.25]["prediction"] == pytest.approx(0.75 * found[0.0]["prediction"])
    assert found[0.25]["sigreg"] == pytest.approx(0.25 * found[1.0]["sigreg"])


def test_sigreg_is_what_keeps_lejepa_from_collapsing():
    method, batch = made(LeJEPA, slices=7, weight=0.05), views()
    with torch.no_grad():
        method.projector[-1].weight.zero_()
        method.projector[-1].bias.zero_()
    terms = method(batch)
    assert terms["prediction"] == 0
    expected = 0.05 * reference.epps_pulley([0.0] * B, **reference.SIGREG_CODE)
    assert terms["sigreg"].item() == pytest.approx(expected, rel=1e-9)


def test_the_recipe_of_lejepa_tells_large_views_from_small():
    run = lejepa(PIXELS, views=3, look=MultiCrop(crops=2), hidden=8, dim=4)
    assert run.method.large == 3
    sizes = [view.size for view in run.views.views]
    assert len(sizes) == 5
    assert sizes[:3] == [sizes[0]] * 3
    assert max(sizes[3:]) < sizes[0]


# Bad input


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [
        (BarlowTwins, {"weight": -0.1}, "--weight"),
        (VICReg, {"covariance_weight": -1.0}, "--covariance-weight"),
        (VICReg, {"dim": 0}, "at least 1"),
        (WMSE, {"sub_batch": 3}, "--sub-batch"),
        (WMSE, {"partitions": 0}, "--partitions"),
        (WMSE, {"epsilon": 1.5}, "--epsilon"),
        (LeJEPA, {"weight": 1.5}, "--weight"),
        (LeJEPA, {"slices": 0}, "--slices"),
        (LeJEPA, {"large": 0}, "--views"),
    ],
)
def test_bad_settings(kind, options, words):
    with pytest.raises(UserError, match=words):
        made(kind, **options)


def test_a_batch_that_sub_batches_do_not_divide():
    with pytest.raises(UserError, match="--sub-batch"):
        made(WMSE, sub_batch=6)(views())


@pytest.mark.parametrize(
    ("recipe", "options", "words"),
    [
        (wmse, {"training": Training(batch_size=100)}, "--batch-size"),
        (wmse, {"views": 1}, "--views"),
        (lejepa, {"views": 1, "look": MultiCrop(crops=0)}, "--crops"),
        (lejepa, {"views": 0}, "--views"),
    ],
)
def test_recipes_refuse_what_cannot_work(recipe, options, words):
    with pytest.raises(UserError, match=words):
        recipe(PIXELS, **options)
