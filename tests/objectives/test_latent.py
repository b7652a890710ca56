import numpy as np
import pytest
import torch

from references import distillation as reference
from references.contrastive import numerical_gradient
from selftaught.objectives.latent import block_regression, masked_regression, mean_of_blocks


def tokens(*shape, seed=0):
    """Unlike means and spreads in each feature, so that no norm is idle."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(*shape, generator=g, dtype=torch.float64)
    scale = torch.linspace(0.2, 3.0, shape[-1], dtype=torch.float64)
    return x * scale + scale.flip(0)


def half(n=3, length=7, seed=0):
    """A mask that hides another number of places of each sample."""
    g = torch.Generator().manual_seed(seed)
    order = torch.rand(n, length, generator=g).argsort(dim=1).argsort(dim=1)
    return order < torch.arange(1, n + 1)[:, None]


def numpy(*tensors):
    return [t.detach().numpy() for t in tensors]


@pytest.mark.parametrize("final_norm", ["layer", "instance", "none"])
@pytest.mark.parametrize("block_norm", ["layer", "instance", "none"])
@pytest.mark.parametrize("top", [1, 3])
def test_the_mean_of_blocks_equals_the_reference(top, block_norm, final_norm):
    blocks = list(tokens(5, 2, 6, 4).unbind())
    ours = mean_of_blocks(*blocks[-top:], block_norm=block_norm, final_norm=final_norm)
    expected = reference.data2vec_targets(numpy(*blocks), top, block_norm, final_norm)
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("beta", [0.0, 0.5, 2.0])
def test_masked_regression_equals_the_reference(beta):
    p, target, hidden = tokens(3, 7, 4), tokens(3, 7, 4, seed=1), half()
    expected = reference.data2vec_loss(*numpy(p, target, hidden), beta or None)
    assert masked_regression(p, target, hidden, beta).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("beta", [0.0, 0.5])
def test_the_gradient_of_masked_regression_equals_the_reference(beta):
    p, target, hidden = tokens(2, 4, 3).requires_grad_(), tokens(2, 4, 3, seed=1), half(2, 4)
    masked_regression(p, target, hidden, beta).backward()
    slow = numerical_gradient(
        lambda x: reference.data2vec_loss(x, *numpy(target, hidden), beta or None),
        p.detach().numpy(),
    )
    np.testing.assert_allclose(p.grad.numpy(), slow, atol=1e-7)
    assert torch.autograd.gradcheck(lambda x: masked_regression(x, target, hidden, beta), p)


def test_only_hidden_places_count():
    p, target, hidden = tokens(3, 7, 4), tokens(3, 7, 4, seed=1), half()
    before = masked_regression(p, target, hidden, 2.0)
    p[~hidden] = torch.nan
    assert torch.equal(masked_regression(p, target, hidden, 2.0), before)


def blocks(n=3, m=4, length=5, places=9):
    g = torch.Generator().manual_seed(3)
    index = torch.rand(m, n, places, generator=g).argsort(dim=2)[..., :length]  # (M, B, L)
    teacher = tokens(n, places, 6)
    prediction = tokens(m, n, length, 6, seed=1)
    target = torch.stack([teacher[torch.arange(n)[:, None], one] for one in index])
    return prediction, teacher, index, target


def test_block_regression_equals_the_reference():
    prediction, teacher, index, target = blocks()
    expected = reference.ijepa_loss(numpy(*prediction), teacher.numpy(), numpy(*index))
    ours = block_regression(prediction.flatten(0, 1), target.flatten(0, 1)).item()
    assert ours == pytest.approx(expected, rel=1e-9)


def test_the_gradient_of_block_regression_equals_the_reference():
    prediction, teacher, index, target = blocks(n=2, m=2, length=2, places=4)
    prediction.requires_grad_()
    block_regression(prediction.flatten(0, 1), target.flatten(0, 1)).backward()
    slow = numerical_gradient(
        lambda x: reference.ijepa_loss(list(x), teacher.numpy(), numpy(*index)),
        prediction.detach().numpy(),
    )
    np.testing.assert_allclose(prediction.grad.numpy(), slow, atol=1e-7)


@pytest.mark.parametrize(
    "loss",
    [
        lambda p, t: masked_regression(p, t, half(), 2.0),
        lambda p, t: masked_regression(p, t, half(), 0.0),
        block_regression,
    ],
)
def test_the_target_gets_no_gradient_and_half_precision_is_widened(loss):
    p, target = (tokens(3, 7, 4, seed=s).requires_grad_() for s in (0, 1))
    loss(p, target).backward()
    assert target.grad is None
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(p.detach().bfloat16(), target.detach().bfloat16())
    assert found.dtype == torch.float32
    exact = loss(p.detach().bfloat16().double(), target.detach().bfloat16().double())
    assert found.item() == pytest.approx(exact.item(), rel=1e-5)


def test_tokens_that_do_not_vary_give_no_nan():
    flat = torch.ones(2, 7, 4)
    target = mean_of_blocks(flat, flat, block_norm="layer", final_norm="layer")
    assert torch.isfinite(target).all()
    assert torch.isfinite(block_regression(flat, flat))


def test_the_mean_of_blocks_in_half_precision_is_widened():
    blocks = tokens(3, 2, 6, 4).bfloat16()
    found = mean_of_blocks(*blocks, block_norm="instance", final_norm="layer")
    assert found.dtype == torch.float32
    exact = mean_of_blocks(*blocks.double(), block_norm="instance", final_norm="layer")
    torch.testing.assert_close(found.double(), exact, atol=1e-4, rtol=1e-4)
