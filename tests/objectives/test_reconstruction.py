import numpy as np
import pytest
import torch

from references import codes
from references.contrastive import numerical_gradient
from references.masked import mae_loss, maskfeat_loss, patchify, simmim_loss
from selftaught.objectives.reconstruction import (
    masked_distance,
    masked_error,
    patch_regression,
    squared_error,
)


def case():
    g = torch.Generator().manual_seed(2)
    patches = torch.randn(3, 9, 12, generator=g, dtype=torch.float64)
    hidden = torch.stack([torch.randperm(9, generator=g)[:6] for _ in range(3)])
    prediction = torch.randn(3, 6, 12, generator=g, dtype=torch.float64)
    target = patches.gather(1, hidden[..., None].expand(-1, -1, 12))
    return prediction, patches, hidden, target


@pytest.mark.parametrize("normalize", [True, False])
def test_equals_the_reference(normalize):
    prediction, patches, hidden, target = case()
    expected = mae_loss(prediction.numpy(), patches.numpy(), hidden.numpy(), normalize)
    ours = patch_regression(prediction, target, normalize=normalize).item()
    assert ours == pytest.approx(expected, rel=1e-9)


def test_gradient_equals_the_reference():
    prediction, patches, hidden, target = case()
    prediction.requires_grad_()
    patch_regression(prediction, target, normalize=True).backward()
    slow = numerical_gradient(
        lambda v: mae_loss(v, patches.numpy(), hidden.numpy(), True), prediction.detach().numpy()
    )
    np.testing.assert_allclose(prediction.grad.numpy(), slow, atol=1e-8)


def test_a_flat_patch_gives_no_nan():
    flat = torch.full((1, 2, 4), 0.5)
    assert torch.isfinite(patch_regression(torch.zeros(1, 2, 4), flat, normalize=True))


def test_squared_error_equals_the_reference():
    g = torch.Generator().manual_seed(3)
    y, x = torch.randn(2, 3, 1, 4, 4, generator=g, dtype=torch.float64)
    assert squared_error(y, x).item() == pytest.approx(
        codes.squared_error(y.numpy(), x.numpy()), rel=1e-9
    )
    assert torch.autograd.gradcheck(squared_error, (y.requires_grad_(), x))


def test_squared_error_is_taken_in_single_precision():
    y, x = torch.rand(2, 3, 100).bfloat16()
    found = squared_error(y, x)
    assert found.dtype == torch.float32
    assert found == (y.float() - x.float()).square().mean()


def masked_case():
    g = torch.Generator().manual_seed(3)
    prediction, target = torch.randn(2, 3, 4, 12, generator=g, dtype=torch.float64)
    hidden = torch.rand(3, 4, generator=g) < 0.5
    assert hidden.any()
    assert not hidden.all()
    return prediction, target, hidden


def test_the_distance_equals_the_reference():
    g = torch.Generator().manual_seed(3)
    painted, images = torch.randn(2, 2, 3, 6, 6, generator=g, dtype=torch.float64).numpy()
    hidden = torch.rand(2, 9, generator=g) < 0.5
    rows = (torch.from_numpy(patchify(x, 2)) for x in (painted, images))
    expected = simmim_loss(painted, images, hidden.numpy(), 2)
    assert masked_distance(*rows, hidden).item() == pytest.approx(expected, rel=1e-9)


def test_the_error_equals_the_reference():
    prediction, target, hidden = masked_case()
    expected = maskfeat_loss(prediction.numpy(), target.numpy(), hidden.numpy())
    assert masked_error(prediction, target, hidden).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("objective", [masked_distance, masked_error])
def test_gradients_of_masked_objectives(objective):
    prediction, target, hidden = masked_case()
    prediction.requires_grad_()
    assert torch.autograd.gradcheck(lambda p: objective(p, target, hidden), prediction)
    objective(prediction, target, hidden).backward()
    assert torch.equal(prediction.grad.ne(0).all(dim=2), hidden)
