import copy
import itertools
import math

import pytest
import torch
from torch import nn

from selftaught.errors import UserError
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


def test_what_is_watched_is_yielded_and_not_minimised():
    class Watcher(Line):
        def forward(self, batch):
            terms = super().forward(batch)
            self.watched = {"slope": self.encoder.weight.sum() * 1e6}
            return terms

    plain, watcher = Line(), Watcher()
    for step in fit(plain, forever(), adam(plain), steps=3):
        assert step.watched == {}
    for step in fit(watcher, forever(), adam(watcher), steps=3):
        before = step.watched["slope"]
    assert list(step.watched) == ["slope"]
    assert not before.requires_grad
    assert torch.equal(plain.encoder.weight, watcher.encoder.weight)


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


def test_each_tensor_is_clipped_where_asked():
    method = Line()
    start = [p.item() for p in method.parameters()]
    step = torch.optim.SGD(method.parameters(), lr=1.0)
    bound = {"clip": 0.01, "clip_by": "tensor"}
    list(fit(method, forever(), step, steps=1, schedule=lambda progress: 1.0, **bound))
    moved = [abs(p.item() - was) for p, was in zip(method.parameters(), start, strict=True)]
    assert moved == pytest.approx([0.01, 0.01], rel=1e-3)


def test_the_callers_random_state_is_left_alone():
    method = Line()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    list(fit(method, forever(), adam(method), steps=2))
    assert torch.equal(torch.get_rng_state(), before)


# Constant groups


def test_constant_groups_keep_their_rate():
    method = Line()
    parameters = [
        {"params": [method.encoder.weight], "lr": 0.2},
        {"params": [method.encoder.bias], "lr": 0.3, "constant": True},
    ]
    optimizer = torch.optim.SGD(parameters)
    rates = []
    for step in fit(method, forever(), optimizer, steps=4, schedule=lambda progress: 1 - progress):
        rates.append([group["lr"] for group in optimizer.param_groups])
        assert step.lr == rates[-1][0]
    assert [first for first, _ in rates] == pytest.approx([0.2, 0.15, 0.1, 0.05])
    assert [second for _, second in rates] == [0.3] * 4


def test_weight_decay_goes_along_a_cosine():
    method = Line()
    parameters = [
        {"params": [method.encoder.weight], "weight_decay": 0.04, "last_decay": 10.0},
        {"params": [method.encoder.bias], "weight_decay": 0.02},
    ]
    optimizer = torch.optim.AdamW(parameters, lr=0.1)
    decays = []
    for _ in fit(method, forever(), optimizer, steps=4):
        decays.append([group["weight_decay"] for group in optimizer.param_groups])
    rise = [0.4 + 0.5 * (0.04 - 0.4) * (1 + math.cos(math.pi * k / 4)) for k in range(4)]
    assert [first for first, _ in decays] == pytest.approx(rise)
    assert [second for _, second in decays] == [0.02] * 4


def test_a_resumed_run_has_the_rates_of_the_unbroken_one():
    def made():
        method = Line()
        parts = [{"params": [method.encoder.weight]}, {"params": [method.encoder.bias]}]
        parts[1]["constant"] = True
        parts[0]["last_decay"] = 30.0
        return method, torch.optim.AdamW(parts, lr=0.2)

    def train(method, optimizer, **options):
        found = fit(method, resumed(options.get("start", 0)), optimizer, steps=6, **options)
        return list(itertools.islice(found, 6 if options.get("start") else 3))

    (one, a), (other, b) = made(), made()
    for _ in fit(one, forever(), a, steps=6):
        pass
    train(other, b)
    fresh, c = made()
    fresh.load_state_dict(other.state_dict())
    c.load_state_dict(copy.deepcopy(b.state_dict()))
    train(fresh, c, start=3)
    for name, value in one.state_dict().items():
        assert torch.equal(value, fresh.state_dict()[name]), name


# Surveys


class Surveyor(Method):
    """Remembers the mean of what it saw in all the data, and draws a number at each survey."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Linear(1, 2), nn.BatchNorm1d(2))
        self.centre = nn.Buffer(torch.zeros(2))
        self.drawn = nn.Buffer(torch.zeros(()))
        self.log = []

    def forward(self, batch):
        (x,) = batch.views
        assert self.training
        self.log.append("step")
        noise = 0.1 * torch.rand(2)
        return {"distance": (self.encoder(x) - self.centre - 1 + noise).square().mean()}

    def survey(self, whole):
        assert not self.training
        assert not torch.is_grad_enabled()
        self.log.append(f"survey at {self.progress:.2f}")
        self.half = torch.is_autocast_enabled("cpu")
        h = torch.cat([self.encoder(x) for batch in whole for x in batch.views])
        assert not h.requires_grad
        self.centre.copy_(h.mean(0))
        self.drawn.copy_(torch.rand(()))


def everything():
    x = torch.linspace(-1, 1, 10).view(-1, 1)
    for index in torch.arange(10).split(4):
        yield ViewBatch((x[index],), index)


def resumed(start):
    return itertools.islice(forever(), start, None)


def surveyed(method, optimizer, *, start=0, stop=8, every=3, **options):
    found = fit(
        method,
        resumed(start),
        optimizer,
        steps=8,
        start=start,
        survey=everything,
        survey_every=every,
        **options,
    )
    return list(itertools.islice(found, stop - start))


def test_the_survey_comes_before_the_steps_it_is_due_at():
    method = Surveyor()
    surveyed(method, adam(method))
    step = ["step"]
    assert method.log == [
        *("survey at 0.00", *step * 3),
        *("survey at 0.38", *step * 3),
        *("survey at 0.75", *step * 2),
    ]
    assert method.training


def test_a_survey_moves_no_running_statistics_but_what_it_writes():
    method = Surveyor()
    surveyed(method, adam(method), stop=1, every=1)
    plain = Surveyor()
    plain.survey = lambda whole: plain.centre.copy_(method.centre)
    surveyed(plain, adam(plain), stop=1, every=1)
    assert method.encoder[1].num_batches_tracked == 1
    for name in ("encoder.1.running_mean", "encoder.1.running_var"):
        assert torch.equal(method.state_dict()[name], plain.state_dict()[name])


@pytest.mark.parametrize("options", [{"every": 0}, {"survey": None}])
def test_without_one_there_is_none(options):
    method = Surveyor()
    whole = {"survey": everything, "survey_every": 2} | {
        {"every": "survey_every"}.get(name, name): value for name, value in options.items()
    }
    list(fit(method, forever(), adam(method), steps=4, **whole))
    assert method.log == ["step"] * 4


@pytest.mark.parametrize("half", [True, False])
def test_the_survey_is_taken_in_the_runs_precision(half):
    method = Surveyor()
    dtype = torch.bfloat16 if half else torch.float32
    surveyed(method, adam(method), stop=1, dtype=dtype)
    assert method.half == half


@pytest.mark.parametrize("stop", [1, 3, 4, 6])
def test_resume_at_and_between_surveys_is_exact(stop):
    one, first, second = Surveyor(), Surveyor(), Surveyor()
    with torch.no_grad():
        second.encoder[0].weight.zero_()
    surveyed(one, adam(one))
    before, after = adam(first), adam(second)
    surveyed(first, before, stop=stop)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    surveyed(second, after, start=stop)
    for name, value in one.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name
    assert one.drawn != 0


def test_batches_that_end_early_are_named():
    method = Line()
    with pytest.raises(UserError, match="ended after 2 of 5 steps"):
        list(fit(method, iter([next(forever())] * 2), adam(method), steps=5))
