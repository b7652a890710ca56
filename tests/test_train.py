import itertools
import math

import pytest
import torch
from torch import nn

from selftaught.method import Method, ViewBatch
from selftaught.train import NotFinite, fit


class Line(Method):
    """Fits a line; poison makes a term or a gradient infinite."""

    def __init__(self, poison=""):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Linear(1, 1)
        self.seen = nn.Buffer(torch.zeros(()))
        self.calls = 0
        self.poison = poison

    def forward(self, batch):
        (x,) = batch.views
        self.seen += 1
        y = self.encoder(x)
        terms = {"fit": (y - 2 * x).square().mean(), "size": 0.01 * self.encoder.weight.norm()}
        if self.poison == "term" and self.seen == 3:
            terms["fit"] = terms["fit"] * math.nan
        if self.poison == "gradient" and self.seen == 3:
            terms["fit"] = terms["fit"] + (y - y.detach()).abs().sqrt().sum()
        return terms

    def after_step(self):
        self.calls += 1


def forever():
    for step in itertools.count():
        x = torch.rand(8, 1, generator=torch.Generator().manual_seed(step))
        yield ViewBatch((x,), torch.arange(8))


def adam(method):
    return torch.optim.AdamW(method.parameters(), lr=0.1)


def test_yields_every_step_with_its_terms():
    method = Line()
    steps = list(fit(method, forever(), adam(method), steps=5))
    assert [s.number for s in steps] == [1, 2, 3, 4, 5]
    assert all(set(s.terms) == {"fit", "size"} for s in steps)
    assert not any(t.requires_grad for s in steps for t in s.terms.values())
    assert all(s.samples == 8 and 0 <= s.waiting <= s.seconds for s in steps)
    assert method.calls == 5


def test_minimises_the_sum_of_the_terms():
    method = Line()
    *_, last = fit(method, forever(), adam(method), steps=200)
    assert last.terms["fit"] < 1e-3
    assert method.encoder.weight.item() == pytest.approx(2, abs=0.1)


def test_the_rate_is_set_before_the_step_from_progress_alone():
    method = Line()
    seen = []

    def schedule(progress):
        seen.append(progress)
        return 1 - progress

    rates = [s.lr for s in fit(method, forever(), adam(method), steps=4, schedule=schedule)]
    assert seen == [0, 0.25, 0.5, 0.75]
    assert rates == pytest.approx([0.1, 0.075, 0.05, 0.025])


@pytest.mark.parametrize(("poison", "what"), [("term", "fit"), ("gradient", "gradient")])
def test_nothing_moves_when_a_value_is_not_finite(poison, what):
    method = Line(poison)
    found = fit(method, forever(), adam(method), steps=5)
    next(found), next(found)
    before = {k: v.clone() for k, v in method.state_dict().items()}
    with pytest.raises(NotFinite, match=what) as caught:
        next(found)
    assert caught.value.step == 2
    assert torch.equal(caught.value.index, torch.arange(8))
    for name, value in method.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert method.calls == 2


def test_the_gradient_is_clipped():
    free, bound = Line(), Line()
    free_step = torch.optim.SGD(free.parameters(), lr=1.0)
    bound_step = torch.optim.SGD(bound.parameters(), lr=1.0)
    start = bound.encoder.weight.item(), bound.encoder.bias.item()
    flat = {"schedule": lambda progress: 1.0, "steps": 1}
    list(fit(free, forever(), free_step, **flat))
    list(fit(bound, forever(), bound_step, clip=0.01, **flat))
    moved = [bound.encoder.weight.item() - start[0], bound.encoder.bias.item() - start[1]]
    assert math.hypot(*moved) == pytest.approx(0.01, rel=1e-3)
    far = [free.encoder.weight.item() - start[0], free.encoder.bias.item() - start[1]]
    assert math.hypot(*far) > 0.1


def test_the_callers_random_state_is_left_alone():
    method = Line()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    list(fit(method, forever(), adam(method), steps=2))
    assert torch.equal(torch.get_rng_state(), before)
