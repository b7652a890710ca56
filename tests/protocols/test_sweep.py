import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from selftaught.protocols.sweep import Heads, linear_sgd

STEPS, RATES = 12, (0.01, 0.3)


def draw(n=120, classes=3, seed=0):
    """Features of two poolings, the second without the classes."""
    g = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    good = 3 * F.one_hot(y, 5).float() + torch.randn(n, 5, generator=g)
    return {"noise": 2 + torch.randn(n, 4, generator=g), "good": 5 + 2 * good}, y


def batches(x, y, steps=STEPS, size=16):
    for step in range(steps):
        index = torch.arange(step * size, (step + 1) * size) % len(y)
        yield {name: z[index] for name, z in x.items()}, y[index]


def alone(x, y, name, rate):
    """One head by autograd and torch's SGD."""
    mean, std = x[name].mean(0), x[name].std(0, correction=0)
    head = nn.Linear(x[name].shape[1], 3)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    optimizer = torch.optim.SGD(head.parameters(), lr=rate, momentum=0.9)
    for step, (z, target) in enumerate(batches(x, y)):
        optimizer.param_groups[0]["lr"] = rate * (1 + math.cos(math.pi * step / STEPS)) / 2
        optimizer.zero_grad()
        F.cross_entropy(head((z[name] - mean) / std), target).backward()
        optimizer.step()
    return head


def test_heads_trained_at_once_are_those_trained_alone():
    x, y = draw()
    heads = Heads(x, 3, RATES)
    for step, batch in enumerate(batches(x, y)):
        heads.step(*batch, step / STEPS)
    for name in x:
        for i, rate in enumerate(RATES):
            expected = alone(x, y, name, rate)
            weight = heads.weight[name].view(len(RATES), 3, -1)[i]
            torch.testing.assert_close(weight, expected.weight.detach(), atol=1e-5, rtol=1e-4)
            bias = heads.bias[name].view(len(RATES), 3)[i]
            torch.testing.assert_close(bias, expected.bias.detach(), atol=1e-5, rtol=1e-4)


def test_the_head_that_is_best_on_held_out_samples_predicts():
    x, y = draw()
    held, held_y = draw(seed=1)
    test, test_y = draw(seed=2)
    options = {"steps": STEPS, "classes": 3, "rates": RATES}
    found = linear_sgd(x, batches(x, y), [(held, held_y)], [test], **options)
    assert found.head[0] == "good"
    assert found.held_out[found.head] == max(found.held_out.values())
    assert (found.predictions == test_y).double().mean() > 0.85


def test_held_out_accuracy_is_counted_over_batches():
    x, y = draw()
    held, held_y = draw(seed=1)
    parts = [({n: z[:50] for n, z in held.items()}, held_y[:50])]
    parts += [({n: z[50:] for n, z in held.items()}, held_y[50:])]
    options = {"steps": STEPS, "classes": 3, "rates": RATES}
    one = linear_sgd(x, batches(x, y), [(held, held_y)], [held], **options)
    two = linear_sgd(x, batches(x, y), parts, [p for p, _ in parts], **options)
    assert one.held_out == two.held_out
    assert torch.equal(one.predictions, two.predictions)
    accuracy = (one.predictions == held_y).double().mean().item()
    assert one.held_out[one.head] == pytest.approx(accuracy)
