import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge

from protocols.test_linear import draw
from selftaught import seeds
from selftaught.errors import UserError
from selftaught.protocols.fewshot import PENALTY, fewshot


def test_equals_ridge_regression_to_one_hot_targets():
    x, y, test_x, test_y = draw()
    found = fewshot(x, y, test_x, test_y, shots=5, draws=3, seed=1)
    for draw_, accuracy in enumerate(found):
        g = seeds.generator(1, "few shots", 5, draw_)
        index = [(y == c).nonzero().squeeze(1) for c in range(4)]
        chosen = torch.cat([i[torch.randperm(len(i), generator=g)[:5]] for i in index])
        few = x[chosen].double()
        mean, std = few.mean(0), few.std(0, correction=0)
        few, test = (few - mean) / std, (test_x.double() - mean) / std
        penalty = PENALTY * few.square().sum().item() / len(few)
        model = Ridge(alpha=penalty).fit(few.numpy(), np.eye(4)[y[chosen]])
        predicted = model.predict(test.numpy()).argmax(1)
        assert accuracy.item() == pytest.approx((predicted == test_y.numpy()).mean())


def test_more_shots_are_better_and_draws_differ():
    x, y, test_x, test_y = draw(noise=0.8)
    few, many = (fewshot(x, y, test_x, test_y, shots=n) for n in (1, 40))
    assert many.mean() > few.mean()
    assert few.std() > 0
    assert torch.equal(few, fewshot(x, y, test_x, test_y, shots=1))


def test_labels_need_not_be_numbered_from_zero():
    x, y, test_x, test_y = draw()
    one = fewshot(x, y, test_x, test_y, shots=3)
    assert torch.equal(one, fewshot(x, 10 * y + 7, test_x, 10 * test_y + 7, shots=3))


def test_more_shots_than_a_class_has_are_refused():
    x, y, test_x, test_y = draw()
    with pytest.raises(UserError, match="ask for 1 to"):
        fewshot(x, y, test_x, test_y, shots=200)
    with pytest.raises(UserError, match="ask for 1 to"):
        fewshot(x, y, test_x, test_y, shots=0)


def test_features_that_are_all_alike_are_guessed_with():
    y = torch.arange(3).repeat(8)
    found = fewshot(torch.ones(24, 4), y, torch.ones(24, 4), y, shots=5)
    assert ((found - 1 / 3).abs() < 1e-6).all()
