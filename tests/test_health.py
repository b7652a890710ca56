"""One injected cause for each verdict, and healthy runs that raise none."""

import math

import pytest
import torch
from torch import nn

from contract.small import PIXELS, build, steps, whole
from selftaught.health import verdict

UNTRAINED = {"effective_rank": 24.0, "feature_std": 0.14}


def records(first, last, count=20, **signals):
    """A run whose one term goes from first to last in a line."""
    found = []
    for k in range(count):
        value = first + (last - first) * k / (count - 1)
        found.append({"step": k + 1, "terms": {"loss": value}})
    found[-1]["signals"] = {"effective_rank": 70.0, "feature_std": 0.5} | signals
    return found


def test_a_run_that_learns_is_healthy():
    assert verdict(records(6.8, 2.2), UNTRAINED).word == "healthy"


def test_a_term_that_rises_a_little_is_healthy():
    assert verdict(records(-0.9, -0.7), UNTRAINED).word == "healthy"


@pytest.mark.parametrize("end", [math.nan, math.inf, 500.0])
def test_a_term_that_runs_away_has_diverged(end):
    found = verdict(records(6.8, end), UNTRAINED)
    assert found.word == "diverged"
    assert "loss" in found.sentence


@pytest.mark.parametrize("signals", [{"feature_std": 0.001}, {"effective_rank": 1.1}])
def test_one_feature_for_all_images_is_collapse(signals):
    assert verdict(records(6.8, 0.0, **signals), UNTRAINED).word == "collapse"


def test_a_rank_below_the_untrained_one_is_partial_collapse():
    found = verdict(records(6.8, 2.0, effective_rank=6.0), UNTRAINED)
    assert found.word == "partial collapse"
    assert "6.0" in found.sentence


def test_terms_that_stand_still_are_learning_slowly():
    assert verdict(records(6.237, 6.236), UNTRAINED).word == "learning slowly"


def test_too_few_images_for_a_rank():
    untrained = {"effective_rank": None, "feature_std": 0.14}
    assert verdict(records(6.8, 2.0, effective_rank=None), untrained).word == "healthy"


def test_the_first_record_alone_is_no_verdict_of_slowness():
    assert verdict(records(6.8, 6.8, count=2)[-1:], UNTRAINED).word == "healthy"


# Players that compete


def game(critic=1.2, generator=0.9, diversity=(0.3, 0.8), count=20):
    """A game with these terms in its later half, and these diversities at its two probes."""
    found = []
    for k in range(count):
        now = {"critic": critic, "generator": generator} if 2 * k >= count else {}
        found.append({"step": k + 1, "terms": {"critic": 1.38, "generator": 0.7} | now})
    for at, value in zip((count // 2, -1), diversity, strict=True):
        signals = {"effective_rank": 70.0, "feature_std": 0.5, "sample_diversity": value}
        found[at]["signals"] = signals
    return found


BEGUN = UNTRAINED | {"sample_diversity": 0.01}


def test_a_balanced_game_is_healthy():
    assert verdict(game(), BEGUN).word == "healthy"


def test_a_critic_that_is_never_wrong_is_overpowering():
    found = verdict(game(critic=0.02, generator=5.0), BEGUN)
    assert found.word == "overpowering critic"
    assert "0.020" in found.sentence


def test_an_overpowering_critic_is_told_from_a_term_that_ran_away():
    assert verdict(game(critic=0.0, generator=60.0), BEGUN).word == "overpowering critic"
    assert verdict(game(critic=60.0, generator=60.0), BEGUN).word == "diverged"
    assert verdict(game(critic=0.0, generator=math.nan), BEGUN).word == "diverged"


def test_the_published_game_that_a_critic_nearly_wins_is_healthy():
    """BiGAN on MNIST as its authors print it after 400 epochs: half the critic's term is 0.0545."""
    assert verdict(game(critic=0.109, generator=3.83), BEGUN).word == "healthy"


@pytest.mark.parametrize("diversity", [(0.8, 0.002), (0.0, 0.0)], ids=["fell", "never rose"])
def test_samples_that_are_alike_are_a_collapsed_generator(diversity):
    found = verdict(game(diversity=diversity), BEGUN)
    assert found.word == "collapsed generator"
    assert f"{diversity[1]:.3f}" in found.sentence


def test_samples_on_their_way_from_one_image_are_not_judged():
    assert verdict(game(diversity=(0.015, 0.02)), BEGUN).word == "healthy"


def played(run, count=90):
    """A real game at a constant learning rate, by its records as a job writes them."""
    plain = torch.cat([batch.views[0] for batch in whole()])

    @torch.no_grad()
    def signals():
        found = run.method.eval().signals(plain)
        return {"effective_rank": 70.0, "feature_std": 0.5} | found

    untrained, records = signals(), []
    for step in steps(run, count, schedule=lambda progress: 1.0):
        terms = {name: term.item() for name, term in step.terms.items()}
        records.append({"step": step.number, "terms": terms})
        if step.number % 15 == 0:
            records[-1]["signals"] = signals()
    return verdict(records, untrained)


def paced(run, **factors):
    """The run with learning rates of its parts multiplied."""
    lr, groups = run.optimizer.param_groups[0]["lr"], []
    for name, part in run.method.named_children():
        if parameters := list(part.parameters()):
            groups.append({"params": parameters, "lr": lr * factors.get(name, 1.0)})
    run.optimizer.param_groups.clear()
    for group in groups:
        run.optimizer.add_param_group(group)
    return run


class Deaf(nn.Module):
    """A generator that makes one image, whatever it is given."""

    def __init__(self, generator):
        super().__init__()
        self.generator = generator

    def forward(self, z):
        return self.generator(0 * z)


def test_a_healthy_game_that_is_played():
    assert PIXELS.size == 16
    assert played(build("gan")).word == "healthy"


def test_a_generator_that_cannot_move_meets_an_overpowering_critic():
    run = paced(build("gan"), generator=0.0, encoder=5.0, score=5.0)
    assert played(run, 130).word == "overpowering critic"


def test_a_generator_that_hears_nothing_has_collapsed():
    run = build("gan")
    run.method.generator = Deaf(run.method.generator)
    assert played(run).word == "collapsed generator"
