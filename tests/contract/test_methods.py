"""What every recipe's method promises, on one small batch of images."""

import copy
import io
import math

import pytest
import torch

from contract.small import build, pixels_of, same, steps, stream, train, whole
from selftaught.nn.memory import Memory
from selftaught.recipes import RECIPES, find
from selftaught.recipes.parameters import parameters

# Parameters that a method's objective leaves alone, and why.
UNTRAINED: dict[str, dict[str, str]] = {}
# Methods whose terms need not fall when one batch is seen again and again, and why.
NEED_NOT_FALL: dict[str, str] = {
    "gan": "a game: what one player gains the other loses",
    "bigan": "a game: what two players gain the third loses",
    "deepcluster": "every fourth step begins an epoch, with new clusters and a new classifier",
    "moco": "the queue holds keys of the same images, which are as near as the positives",
    "moco_v2": "the queue holds keys of the same images, which are as near as the positives",
}

every_method = pytest.mark.parametrize("name", RECIPES)


def surveyed(run):
    """The run after the survey that its first step begins with, where it makes any."""
    if run.survey_every:
        with torch.no_grad():
            run.method.eval().survey(whole(pixels=pixels_of(run)))
    return run


@every_method
def test_terms_are_named_finite_scalars(name):
    run = surveyed(build(name))
    terms = run.method.train()(next(stream(run)))
    assert terms
    for term in terms.values():
        assert term.shape == ()
        assert torch.isfinite(term)


@every_method
def test_forward_moves_no_memory(name):
    run = surveyed(build(name))
    parts = {n: m for n, m in run.method.named_modules() if isinstance(m, Memory)}
    before = {n: copy.deepcopy(m.state_dict()) for n, m in parts.items()}
    run.method.train()(next(stream(run)))
    for n, part in parts.items():
        same(part.state_dict(), before[n])


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
    for _ in steps(two, 3):
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
        assert terms[0][term] == pytest.approx(value, rel=0.05, abs=0.01)


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
    losses = [sum(step.terms.values()).item() for step in steps(run, 40, fixed=True)]
    first, last = sum(losses[:5]) / 5, sum(losses[-5:]) / 5
    assert last < first - 0.1 * abs(first)


@every_method
def test_the_encoder_is_part_of_the_method_and_says_its_width(name):
    run = build(name)
    method = run.method.eval()
    with torch.no_grad():
        features = method.encoder(torch.rand(3, pixels_of(run).channels, 16, 16))
    assert features.shape == (3, method.encoder.dim)
    assert any(module is method.encoder for module in method.modules())


@every_method
def test_the_published_settings_are_parameters_of_the_recipe(name):
    known = parameters(find(name))
    assert RECIPES[name].published.keys() <= known.keys()
    assert {"batch_size", "epochs", "encoder", "lr"} <= RECIPES[name].published.keys()
