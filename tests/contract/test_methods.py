"""What every recipe's method promises, on one small batch of images."""

import copy
import io
import itertools
import math

import pytest
import torch

from selftaught import seeds
from selftaught.method import ViewBatch
from selftaught.recipes import RECIPES, find
from selftaught.recipes.run import Pixels
from selftaught.train import fit

PIXELS = Pixels(channels=1, size=16, count=64, mean=(0.5,), std=(0.25,))
SMALL = {
    "simclr": {"hidden": 32, "dim": 16},
    "byol": {"hidden": 32, "dim": 16},
    "mae": {"dim": 32, "depth": 1, "heads": 2, "patch": 4},
}
# Parameters that a method's objective leaves alone, and why.
UNTRAINED: dict[str, dict[str, str]] = {}
# Methods whose terms need not fall when one batch is seen again and again, and why.
NEED_NOT_FALL: dict[str, str] = {}

every_method = pytest.mark.parametrize("name", RECIPES)


def build(name, seed=0):
    torch.manual_seed(seed)
    return find(name)(PIXELS, batch_size=16, lr=1e-3, **SMALL[name])


def stream(run, start=0, fixed=False):
    """Endless batches of random images, each a pure function of its step."""
    for step in itertools.count(start):
        g = seeds.generator(0, "images", 0 if fixed else step)
        images = (torch.rand(16, 1, 16, 16, generator=g) * 255).byte()
        parameters = run.views.draw(g, 16)
        views = run.views.apply(run.views.crop(images, parameters), parameters)
        yield ViewBatch(views, torch.arange(16))


def train(run, steps, start=0, of=None, **options):
    found = fit(
        run.method, stream(run, start), run.optimizer, steps=of or steps, start=start, **options
    )
    return [
        {name: term.item() for name, term in step.terms.items()}
        for step in itertools.islice(found, steps - start)
    ]


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


@every_method
def test_terms_are_named_finite_scalars(name):
    run = build(name)
    terms = run.method.train()(next(stream(run)))
    assert terms
    for term in terms.values():
        assert term.shape == ()
        assert torch.isfinite(term)


@every_method
def test_every_trainable_parameter_learns_and_no_other(name):
    run = build(name)
    before = {n: p.clone() for n, p in run.method.named_parameters()}
    teachers = {n for n, p in run.method.named_parameters() if not p.requires_grad}
    after_step, run.method.after_step = run.method.after_step, lambda: None
    train(run, 3, of=10)
    for n, p in run.method.named_parameters():
        moved = not torch.equal(p, before[n])
        expected = n not in teachers and n not in UNTRAINED.get(name, {})
        assert moved == expected, n
    run.method.after_step = after_step


@every_method
def test_optimiser_covers_every_trainable_parameter_once(name):
    run = build(name)
    trained = [p for p in run.method.parameters() if p.requires_grad]
    covered = [p for group in run.optimizer.param_groups for p in group["params"]]
    assert len(covered) == len(trained)
    assert {id(p) for p in covered} == {id(p) for p in trained}


@every_method
def test_the_seed_decides_everything(name):
    one, two, other = build(name), build(name), build(name, seed=1)
    assert train(one, 3) == train(two, 3)
    same(one.method.state_dict(), two.method.state_dict())
    assert train(other, 3) != train(build(name), 3)


@every_method
def test_what_the_caller_draws_between_steps_changes_nothing(name):
    one, two = build(name), build(name)
    train(one, 3)
    for _ in fit(two.method, stream(two), two.optimizer, steps=3):
        torch.rand(7)
        two.method.eval()
    same(one.method.state_dict(), two.method.state_dict())


@every_method
def test_bfloat16(name):
    run = build(name)
    terms = train(run, 3, dtype=torch.bfloat16)
    assert all(math.isfinite(v) for step in terms for v in step.values())
    assert all(p.dtype == torch.float32 for p in run.method.parameters())
    single = train(build(name), 1, of=3)
    for term, value in single[0].items():
        assert terms[0][term] == pytest.approx(value, rel=0.05)


@every_method
def test_state_dict_round_trip(name):
    run, other = build(name), build(name, seed=1)
    train(run, 2, of=4)
    file = io.BytesIO()
    torch.save(run.method.state_dict(), file)
    file.seek(0)
    other.method.load_state_dict(torch.load(file, weights_only=True))
    same(run.method.state_dict(), other.method.state_dict())
    pointers = [p.data_ptr() for p in run.method.state_dict().values() if p.numel()]
    assert len(set(pointers)) == len(pointers), "a tensor is registered twice"


@every_method
@pytest.mark.parametrize("stop", [1, 3, 5])
def test_resume_is_exact(name, stop):
    whole, first, second = build(name), build(name), build(name, seed=1)
    train(whole, 6)
    train(first, stop, of=6)
    second.method.load_state_dict(copy.deepcopy(first.method.state_dict()))
    second.optimizer.load_state_dict(copy.deepcopy(first.optimizer.state_dict()))
    train(second, 6, start=stop)
    same(whole.method.state_dict(), second.method.state_dict())


@every_method
def test_one_batch_is_learnt(name):
    if name in NEED_NOT_FALL:
        return
    run = build(name)
    losses = [
        sum(step.terms.values()).item()
        for step in fit(run.method, stream(run, fixed=True), run.optimizer, steps=40)
    ]
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


@every_method
def test_the_encoder_is_part_of_the_method_and_says_its_width(name):
    run = build(name)
    method = run.method.eval()
    with torch.no_grad():
        features = method.encoder(torch.rand(3, 1, 16, 16))
    assert features.shape == (3, method.encoder.dim)
    assert any(module is method.encoder for module in method.modules())
