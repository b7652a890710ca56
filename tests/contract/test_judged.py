"""What methods say of themselves for the verdict, and that looking at them changes nothing."""

import pytest
import torch

from contract.small import BATCH, build, pixels_of, same, stream, train, whole
from selftaught.method import ViewBatch
from selftaught.recipes import RECIPES
from selftaught.train import judge

every_method = pytest.mark.parametrize("name", RECIPES)
# A guess that knows how often each answer comes is better than one that holds all equally likely.
COUNTED = ("beit", "igpt", "relative_patch")


@every_method
def test_to_be_judged_moves_nothing(name):
    one, two = build(name), build(name)
    train(one, 1, of=2)
    train(two, 1, of=2)
    if not one.method.knows_samples:
        batch = next(stream(one, 7))
        first = judge(one.method, batch)
        assert first == judge(one.method, batch)
    same(one.method.state_dict(), two.method.state_dict())
    train(one, 2, start=1)
    train(two, 2, start=1)
    same(one.method.state_dict(), two.method.state_dict())


@every_method
@torch.no_grad()
def test_a_method_that_knows_nothing_has_what_it_calls_chance(name):
    run = build(name)
    if run.survey_every:
        run.method.eval().survey(whole(pixels=pixels_of(run)))
    for p in run.method.parameters():
        if p.requires_grad:
            p.zero_()
    terms = run.method.train()(next(stream(run)))
    x = torch.cat([batch.views[0] for batch in whole(pixels=pixels_of(run))])
    chance = run.method.eval().chance(x, BATCH)
    assert chance.keys() <= terms.keys()
    for term, value in chance.items():
        found = terms[term].item()
        if name in COUNTED:
            assert 0.2 * found < value < found, term
        elif name == "deepcluster":  # weights are of mean one over all images, not over the batch
            assert found == pytest.approx(value, rel=0.5)
        else:
            assert found == pytest.approx(value, rel=1e-4), term


@every_method
def test_what_it_says_is_of_its_terms(name):
    run = build(name)
    terms = run.method.train()(next(stream(run))) if not run.survey_every else None
    chance = run.method.chance(next(whole(pixels=pixels_of(run))).views[0], BATCH)
    if terms is not None:
        assert run.method.agreement.keys() <= terms.keys()
    if run.method.tells_apart:
        assert set(run.method.tells_apart) & chance.keys()


@pytest.mark.parametrize("name", ["simsiam", "byol", "vicreg"])
@torch.no_grad()
def test_views_that_are_one_agree_as_said(name):
    run = build(name)
    method, batch = run.method.eval(), next(stream(run))
    method.predictor = torch.nn.Identity()
    x = batch.views[0]
    terms = method(ViewBatch((x, x), batch.index))
    assert method.agreement
    for term, value in method.agreement.items():
        assert terms[term].item() == pytest.approx(value, abs=1e-5)
