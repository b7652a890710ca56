import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from selftaught.errors import UserError
from selftaught.protocols import convex, linear
from selftaught.protocols.convex import doubts, folds
from selftaught.protocols.linear import logreg


def draw(n=400, m=200, dim=6, classes=4, seed=0, noise=1.5):
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, dim, generator=g)
    y = torch.randint(classes, (n + m,), generator=g)
    x = centres[y] + noise * torch.randn(n + m, dim, generator=g)
    return x[:n], y[:n], x[n:], y[n:]


def standardised(x, *others):
    mean, std = x.double().mean(0), x.double().std(0, correction=0)
    return [((other.double() - mean) / std).numpy() for other in (x, *others)]


@pytest.fixture(params=[1, 10**9], ids=["float32 first", "float64"], autouse=True)
def precision(request, monkeypatch):
    monkeypatch.setattr(convex, "MANY", request.param)


def exact(x, y, c):
    return LogisticRegression(C=c, tol=1e-10, max_iter=10000).fit(x, y)


@pytest.mark.parametrize("n", [400, 30], ids=["many", "fewer than features"])
@pytest.mark.parametrize("c", [1e-3, 0.1, 10.0])
def test_finds_the_optimum_that_scikit_learn_finds(c, n, monkeypatch):
    monkeypatch.setattr(linear, "FINAL", 1e-7)
    x, y, test_x, _ = draw(n, dim=6 if n == 400 else 50)
    found = logreg(x, y, test_x, grid=(c,))
    train, test = standardised(x, test_x)
    model = exact(train, y.numpy(), c)
    std = x.double().std(0, correction=0)
    np.testing.assert_allclose(found.weight * std, model.coef_, atol=1e-5)
    scores = (test_x.double() @ found.weight.T + found.bias).numpy()
    expected = model.decision_function(test)
    centre = lambda s: s - s.mean(1, keepdims=True)  # noqa: E731
    np.testing.assert_allclose(centre(scores), centre(expected), atol=1e-4)
    assert found.predictions.tolist() == model.predict(test).tolist()
    assert found.converged


def test_the_default_tolerance_is_near_the_optimum():
    x, y, test_x, _ = draw()
    found = logreg(x, y, test_x)
    train, _ = standardised(x, test_x)
    weight = (found.weight * x.double().std(0, correction=0)).numpy()
    expected = exact(train, y.numpy(), found.C).coef_
    assert np.abs(weight - expected).max() < 0.01 * np.abs(expected).max()


@pytest.mark.parametrize("few", [True, False])
def test_c_is_the_best_on_what_is_held_out(few, monkeypatch):
    monkeypatch.setattr(linear, "SEARCH", 1e-6)
    monkeypatch.setattr(linear, "FEW", 301 if few else 300)
    # So many features that the weakest penalty is not the best.
    x, y, test_x, _ = draw(n=300, dim=80, noise=2.5)
    found = logreg(x, y, test_x, seed=3)
    (train,), truth = standardised(x), y.numpy()
    fold = folds(truth, 3, 10).numpy()
    parts = [fold == k for k in range(10 if few else 1)]
    for c in (1e-3, 1e-2, 1e-1):
        right = [
            exact(train[~held], truth[~held], c).predict(train[held]) == truth[held]
            for held in parts
        ]
        assert found.held_out[c] == pytest.approx(np.concatenate(right).mean(), abs=1e-9), c
    best = max(found.held_out.values())
    assert min(c for c, a in found.held_out.items() if a == best) == found.C
    assert min(linear.GRID) < found.C < max(linear.GRID)


def test_fewer_samples_than_features_need_no_matrix_of_all_pairs_of_features(monkeypatch):
    shapes = []
    solve = linear.solve

    def watched(loss, samples, *args, **more):
        shapes.append(samples.moment.shape[0])
        return solve(loss, samples, *args, **more)

    monkeypatch.setattr(linear, "solve", watched)
    x, y, test_x, _ = draw(n=40, dim=3000)
    assert logreg(x, y, test_x).weight.shape == (4, 3000)
    assert max(shapes) == 40


def test_test_features_take_no_part_in_the_fit():
    x, y, test_x, _ = draw()
    one, two = logreg(x, y, test_x), logreg(x, y, 100 * test_x[:3])
    assert one.C == two.C
    assert torch.equal(one.weight, two.weight)
    assert torch.equal(one.bias, two.bias)


def test_the_seed_decides_what_is_held_out():
    x, y, test_x, _ = draw(n=300, dim=80, noise=2.5)
    one, same, other = (logreg(x, y, test_x, seed=s) for s in (0, 0, 1))
    assert one.held_out == same.held_out
    assert torch.equal(one.weight, same.weight)
    assert one.held_out != other.held_out


@pytest.mark.parametrize("counts", [(500, 300, 200), (7, 5, 3, 1), (2, 1), (1, 1, 1, 40)])
def test_a_tenth_of_each_class_is_held_out_and_never_all_of_it(counts):
    y = np.repeat(np.arange(len(counts)), counts)
    held = (folds(np.random.default_rng(1).permutation(y), 0, 10) == 0).numpy()
    y = np.random.default_rng(1).permutation(y)
    assert max(1, len(y) // 10 - 1) <= held.sum() <= len(y) / 10 + 1
    for c, count in enumerate(counts):
        assert abs(held[y == c].sum() - count / 10) <= 1
        assert held[y == c].sum() < count


def test_scale_shift_and_constant_features_change_nothing():
    x, y, test_x, _ = draw()
    scale, shift = 10.0 ** torch.arange(-3, 3), torch.tensor([0, 5, -9, 300, 0, 1e4])
    constant = torch.tensor([0.0, 0.1, -3e6], dtype=torch.float64)

    def change(z):
        noise = 1e-7 * torch.randn(len(z), 3, generator=torch.Generator().manual_seed(len(z)))
        return torch.cat([z * scale + shift, constant + noise * constant], dim=1)

    one = logreg(x.double(), y, test_x.double())
    two = logreg(change(x.double()), y, change(test_x.double()))
    assert one.C == two.C
    assert torch.equal(one.predictions, two.predictions)
    assert two.weight[:, 6:].abs().max() < 1e-4
    assert two.weight.isfinite().all()


def test_labels_come_back_as_they_were_given():
    x, y, test_x, test_y = draw(noise=0.3)
    names = torch.tensor([3, 17, 20, 1000])
    found = logreg(x, names[y], test_x)
    assert found.classes.tolist() == names.tolist()
    assert (found.predictions == names[test_y]).double().mean() > 0.9
    assert found.predictions.dtype == torch.int64


def test_two_separable_classes_and_half_precision():
    x = torch.cat([torch.randn(30, 3) - 9, torch.randn(30, 3) + 9]).bfloat16()
    y = torch.arange(60) // 30
    found = logreg(x, y, x)
    assert torch.equal(found.predictions, y)
    assert found.weight.isfinite().all()


def test_says_when_it_has_not_converged(monkeypatch):
    x, y, test_x, _ = draw()
    monkeypatch.setattr(linear, "FINAL", 0.0)
    found = logreg(x, y, test_x, grid=(1.0,))
    assert not found.converged
    assert found.weight.isfinite().all()


@pytest.mark.parametrize(
    ("held_out", "edge"),
    [
        ((0.5, 0.6, 0.4), ""),
        ((0.5, 0.5, 0.4), ""),  # the smallest of equals is at the edge, and none beyond is better
        ((0.6, 0.5, 0.4), "C is at the edge of what was tried (0.1)"),
        ((0.4, 0.5, 0.6), "C is at the edge of what was tried (10)"),
    ],
)
def test_what_is_to_be_said_beside_a_number(held_out, edge):
    of = dict(zip((0.1, 1.0, 10.0), held_out, strict=True))
    assert doubts(of, converged=True) == edge
    assert doubts(of, converged=False) == "; ".join(
        ["the fit did not converge", edge][: 1 + bool(edge)]
    )
    assert not doubts({1.0: 0.5}, converged=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test_x": torch.ones(3, 5)}, "shapes"),
        ({"train_y": torch.zeros(399, dtype=torch.int64)}, "one integer label"),
        ({"train_y": torch.zeros(400)}, "one integer label"),
        ({"train_y": torch.zeros(400, dtype=torch.int64)}, "two classes"),
        ({"train_y": torch.arange(400)}, "held-out"),
        ({"train_y": torch.arange(400) // 100 - 1}, r"from -1 to 2; they must lie in"),
        ({"classes": 3}, r"from 0 to 3; they must lie in \[0, 3\)"),
        ({"classes": 9}, "no training sample of 5 classes, 4 the first"),
        ({"test_x": torch.full((3, 6), torch.nan)}, "NaN"),
        ({"train_x": torch.full((400, 6), torch.inf)}, "NaN"),
    ],
)
def test_says_what_is_wrong_in_one_line(change, message):
    x, y, test_x, _ = draw()
    given = {"train_x": x, "train_y": y, "test_x": test_x} | change
    with pytest.raises(UserError, match=message) as caught:
        logreg(**given)
    assert "\n" not in str(caught.value)
