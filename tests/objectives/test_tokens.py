import pytest
import torch

from references.sequence import token_loss
from selftaught.objectives.tokens import token_prediction


def case():
    g = torch.Generator().manual_seed(0)
    scores = 3 * torch.randn(2, 5, 7, generator=g, dtype=torch.float64)
    return scores, torch.randint(7, (2, 5), generator=g)


def test_equals_the_reference():
    scores, tokens = case()
    expected = token_loss(scores.flatten(0, 1).numpy(), tokens.flatten().numpy())
    assert token_prediction(scores, tokens).item() == pytest.approx(expected, rel=1e-9)
    rows = token_prediction(scores.flatten(0, 1), tokens.flatten())
    assert rows.item() == pytest.approx(expected, rel=1e-9)


def test_gradient():
    scores, tokens = case()
    assert torch.autograd.gradcheck(lambda s: token_prediction(s, tokens), scores.requires_grad_())
