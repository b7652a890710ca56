import numpy as np
import pytest
import torch
from sklearn.svm import LinearSVC

from protocols.test_linear import draw, precision, standardised
from selftaught.errors import UserError
from selftaught.protocols import margin
from selftaught.protocols.convex import SQUARED_HINGE, Samples, folds, solve
from selftaught.protocols.margin import svm, svm_tags

__all__ = ["precision"]  # a fixture for all that follows


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


@pytest.mark.parametrize("n", [300, 36], ids=["many", "fewer than features"])
def test_predicts_what_liblinear_predicts_with_the_c_of_cross_validation(n):
    x, y, test_x, _ = draw(n=n, dim=40, noise=2.0)
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


def test_says_when_it_has_not_converged(monkeypatch):
    (x, y, test_x, _), (tagged, labels) = draw(), tags()
    assert svm(x, y, test_x).converged
    assert svm_tags(tagged, labels, tagged).converged
    monkeypatch.setattr(margin, "FINAL", 0.0)
    assert not svm(x, y, test_x).converged
    assert not svm_tags(tagged, labels, tagged).converged


def test_labels_that_do_not_fit_are_refused():
    x, y, test_x, _ = draw()
    with pytest.raises(UserError, match="one integer label"):
        svm(x, y[:-1], test_x)
    with pytest.raises(UserError, match="two classes"):
        svm(x, torch.zeros_like(y), test_x)


def tags(n=200, dim=12, seed=1):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(n, dim, generator=g)
    y = (x[:, :3] + 0.7 * torch.randn(n, 3, generator=g) > 0.8).to(torch.int8)
    return x, y


def test_one_machine_a_label_is_liblinears_with_the_c_of_the_held_out_parts():
    x, y = tags()
    test_x, _ = tags(seed=2)
    unsaid = torch.rand(y.shape, generator=torch.Generator().manual_seed(3)) < 0.1
    y[unsaid] = -1
    found = svm_tags(x, y, test_x)
    assert found.scores.shape == (200, 3)
    train, test = standardised(x, test_x)
    for k in range(3):
        said = (y[:, k] >= 0).numpy()
        model = exact(train[said], y[:, k].numpy()[said], float(found.C[k]))
        np.testing.assert_allclose(found.scores[:, k], model.decision_function(test), atol=1e-3)
        held = {c: value[k].item() for c, value in found.held_out.items()}
        assert max(held, key=lambda c: (held[c], -c)) == pytest.approx(float(found.C[k]))
        assert held[1e-2] > 0.5


def test_labels_of_several_that_do_not_fit_are_refused():
    x, y = tags()
    with pytest.raises(UserError, match=r"give \(N, K\) of 0, 1 or -1"):
        svm_tags(x, y[:-1], x)
    with pytest.raises(UserError, match=r"give \(N, K\) of 0, 1 or -1"):
        svm_tags(x, y * 2, x)
    y[:, 1] = 0
    with pytest.raises(UserError, match="0 of 200 training samples have label 1"):
        svm_tags(x, y, x)
    with pytest.raises(UserError, match="NaN"):
        svm_tags(x * torch.nan, y, x)
