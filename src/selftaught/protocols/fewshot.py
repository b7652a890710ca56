"""How few labels are enough: closed-form classifiers on a few samples of each class."""

import torch
from torch import Tensor

from selftaught import seeds
from selftaught.errors import UserError
from selftaught.protocols.convex import moments

DRAWS = 10
PENALTY = 1e-1  # over the mean square of the standardised features


@torch.no_grad()
def fewshot(
    train_x: Tensor,  # (N, D)
    train_y: Tensor,  # (N,)
    test_x: Tensor,  # (M, D)
    test_y: Tensor,  # (M,)
    *,
    shots: int,
    draws: int = DRAWS,
    seed: int = 0,
) -> Tensor:
    """Accuracies (draws,) on all of test, each of ``shots`` samples a class drawn at random.

    Each is a ridge regression to one-hot targets in closed form, on features standardised by the
    drawn samples' own mean and deviation, the bias free (as in big_vision's few-shot evaluation,
    which centres too). Raises UserError where a class has fewer samples than ``shots``.
    """
    classes = train_y.unique()
    index = [(train_y == c).nonzero().squeeze(1) for c in classes]
    least = min(len(i) for i in index)
    if shots < 1 or least < shots:
        raise UserError(
            f"{shots} samples of each class, of which one has {least}; ask for 1 to {least}"
        )
    found = []
    for draw in range(draws):
        g = seeds.generator(seed, "few shots", shots, draw)
        chosen = torch.cat([i[torch.randperm(len(i), generator=g)[:shots]] for i in index])
        x = train_x[chosen].double()
        predicted = classes[_ridge(x, train_y[chosen], classes, test_x.double()).argmax(dim=1)]
        found.append((predicted == test_y).double().mean())
    return torch.stack(found)


def _ridge(x: Tensor, y: Tensor, classes: Tensor, test: Tensor) -> Tensor:
    """Scores (M, K). Solved among samples, which are fewer than features as a rule."""
    mean, scale = moments(x)
    x, test = (x - mean) / scale, (test - mean) / scale
    target = (y[:, None] == classes).double()
    centre = target.mean(0)
    gram, size = x @ x.T, x.square().sum() / len(x)
    size = size.where(size > 0, 1.0)  # where all features are alike
    gram = gram + PENALTY * size * torch.eye(len(x), dtype=x.dtype)
    return (test @ x.T) @ torch.linalg.solve(gram, target - centre) + centre
