import numpy as np
import pytest
import torch
from sklearn.svm import LinearSVC

from protocols.test_linear import draw, standardised
from selftaught.errors import UserError
from selftaught.protocols.convex import SQUARED_HINGE, Samples, folds, solve
from selftaught.protocols.margin import svm


def exact(x, y, c):
    """liblinear, whose penalty of the bias a large scale makes as good as none."""
    options = {"intercept_scaling": 1e3, "tol": 1e-8, "max_iter": 100000, "dual": False}
    return LinearSVC(C=c, loss="squared_hinge", **options).fit(x, y)


@pytest.mark.parametrize("c", [1e-3, 0.1])
def test_finds_the_optimum_that_liblinear_finds(c):
    x, y, _, _ = draw()
    (train,) = standardised(x)
    start = torch.zeros(4, 6).double(), torch.zeros(4).double()
    options = {"tolerance": 1e-6, "iterations": 1000}
    samples = Samples(torch.from_numpy(train), y)
    weight, bias, converged = solve(SQUARED_HINGE, samples, c, start, **options)
    assert converged
    model = exact(train, y.numpy(), c)
    np.testing.assert_allclose(weight, model.coef_, atol=1e-4)
    np.testing.assert_allclose(bias, model.intercept_, atol=1e-4)


def test_predicts_what_liblinear_predicts_with_the_c_of_cross_validation():
    x, y, test_x, _ = draw(n=300, dim=40, noise=2.0)
    found = svm(x, y, test_x, seed=2)
    train, test = standardised(x, test_x)
    fold = folds(y.numpy(), 2, 3).numpy()
    for c in (1e-4, 1e-2, 1.0):
        hits = 0
        for i in range(3):
            model = exact(train[fold != i], y.numpy()[fold != i], c)
            hits += (model.predict(train[fold == i]) == y.numpy()[fold == i]).sum()
        assert found.held_out[c] == pytest.approx(hits / (fold >= 0).sum(), abs=0.01)
    assert max(found.held_out, key=lambda c: (found.held_out[c], -c)) == found.C
    model = exact(train, y.numpy(), found.C)
    assert (model.predict(test) == found.predictions.numpy()).mean() > 0.99


def test_labels_that_do_not_fit_are_refused():
    x, y, test_x, _ = draw()
    with pytest.raises(UserError, match="one integer label"):
        svm(x, y[:-1], test_x)
    with pytest.raises(UserError, match="two classes"):
        svm(x, torch.zeros_like(y), test_x)
