"""One injected cause for each verdict, and healthy runs that raise none."""

import math

import pytest
import torch
from torch import nn

from contract.small import PIXELS, build, steps, whole
from selftaught.health import held_back, verdict

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


# What the method says of its terms


def pretext(**more):
    return {"chance": {}, "tells_apart": (), "agreement": {}, "fixed": False} | more


def judged(first, last, begun=None, settings=None, probes=5, **signals):
    """A run with several probes, which say the same of its pretext and its features."""
    found = records(first, last)
    for k in range(probes):
        found[-1 - k]["signals"] = {"effective_rank": 70.0, "feature_std": 0.5} | signals
        found[-1 - k]["step"] = 100 - k
    return verdict(found, UNTRAINED | {"pretext": begun or signals.get("pretext", {})}, settings)


APART = pretext(chance={"loss": 5.36}, tells_apart=("loss",))


def test_few_dimensions_that_still_tell_images_apart_are_not_lost():
    """CPC on Fashion-MNIST after 41 steps of 256 images: InfoNCE is below a guess and falls."""
    ranks = {"effective_rank": 2.2, "centred_rank": 19.6, "feature_std": 0.045}
    found = judged(11.99, 5.07, pretext=APART, **ranks)
    assert found.word == "healthy"
    assert "5.36" in found.sentence
    assert judged(11.99, 5.36, pretext=APART, **ranks).word == "partial collapse"


def test_what_tells_images_apart_is_asked_of_images_not_trained_on():
    leaky = APART | {"held_out": {"loss": 5.36}, "trained": {"loss": 5.36}}
    begun = leaky | {"trained": {"loss": 11.9}}
    word = judged(11.99, 2.0, begun, pretext=leaky, effective_rank=2.2, centred_rank=9.0).word
    assert word == "partial collapse"


def test_one_feature_for_all_is_collapse_unless_candidates_are_found():
    assert judged(6.2, 5.36, pretext=APART, feature_std=0.01).word == "collapse"
    assert judged(6.2, 4.0, pretext=APART, feature_std=0.01).word == "healthy"


def test_a_rank_that_falls_only_where_the_mean_moves_is_no_collapse():
    found = records(6.8, 2.0, effective_rank=6.0, centred_rank=80.0)
    assert verdict(found, UNTRAINED | {"centred_rank": 90.0}).word == "healthy"
    assert verdict(found, UNTRAINED | {"centred_rank": 190.0}).word == "partial collapse"


def test_terms_at_a_guess_are_learning_slowly():
    found = judged(6.3, 5.3, pretext=APART)
    assert found.word == "learning slowly"
    assert "5.36" in found.sentence
    assert judged(6.3, 5.2, pretext=APART).word == "healthy"


def test_the_cause_of_a_guess():
    hot = judged(5.36, 5.36, settings={"temperature": 50.0}, pretext=APART).sentence
    assert "temperature of 50" in hot
    assert "raise --lr" in judged(5.36, 5.36, pretext=APART).sentence


def test_a_term_that_stands_still_while_features_move_is_healthy():
    """MoCo's, whose queue fills with harder keys as it learns."""
    moved = records(5.0, 5.0)
    for step, rank in ((5, 20.0), (12, 40.0), (19, 60.0)):
        moved[step] |= {"step": 30 + step, "signals": {"effective_rank": rank, "feature_std": 0.5}}
    assert verdict(moved, UNTRAINED).word == "healthy"
    for step in (5, 12, 19):
        moved[step]["signals"]["effective_rank"] = 60.0
    assert verdict(moved, UNTRAINED).word == "learning slowly"


FIRST = pretext(trained={"loss": 2.0}, held_out={"loss": 2.0})


@pytest.mark.parametrize(
    ("held", "probes", "word"),
    [
        (1.9, 5, "overfitting the pretext"),  # fell by 0.1 where the others fell by 1.5
        (1.0, 5, "healthy"),
        (1.9, 2, "healthy"),  # once is not enough
    ],
)
def test_what_holds_for_the_images_trained_on_only(held, probes, word):
    now = FIRST | {"trained": {"loss": 0.5}, "held_out": {"loss": held}}
    settings = {"images": 1000}
    found = judged(2.0, 0.5, FIRST, settings, probes, pretext=now)
    assert found.word == word
    if word != "healthy":
        assert "0.5 on images that are trained on and 1.9" in found.sentence


def test_what_was_learnt_counts_from_a_guess_where_it_is_known():
    """From 12.0 of an untrained network, which is worse than a guess, 1.3 would be little."""
    begun = pretext(chance={"loss": 2.0}, trained={"loss": 12.0}, held_out={"loss": 12.0})
    now = begun | {"trained": {"loss": 0.5}, "held_out": {"loss": 1.8}}
    assert held_back(now, begun) == pytest.approx(1.3 / 1.5)
    assert held_back(now | {"chance": {}}, begun) == pytest.approx(1.3 / 11.5)
    guessing = begun | {"trained": {"loss": 1.9}, "held_out": {"loss": 3.0}}
    assert held_back(guessing, begun) is None
    assert held_back(pretext(), begun) is None


@pytest.mark.parametrize(
    ("same", "other", "word"),
    [
        (-0.86, -0.861, "collapse"),
        (-0.95, -0.80, "healthy"),  # views of one image are nearer
        (-0.30, -0.30, "healthy"),  # still far from one
        (-0.999, -0.99, "collapse"),
    ],
)
def test_views_of_different_images_that_agree(same, other, word):
    begun = pretext(agreement={"loss": -1.0}, trained={"loss": 0.0}, mixed={"loss": 0.0})
    now = begun | {"trained": {"loss": same}, "mixed": {"loss": other}}
    assert judged(0.0, same, begun, pretext=now).word == word


def test_a_term_that_is_its_bound_from_the_first_says_nothing_of_agreement():
    """VICReg with an invariance weight of 0."""
    never = pretext(agreement={"loss": 0.0}, trained={"loss": 0.0}, mixed={"loss": 0.0})
    assert judged(1.0, 0.5, never, pretext=never).word == "healthy"


def test_features_that_were_one_before_training_have_not_collapsed():
    found = records(6.8, 2.0, effective_rank=None, feature_std=0.001)
    one = verdict(found, {"effective_rank": None, "feature_std": 0.001})
    assert one.word == "learning slowly"
    assert "all one image" in one.sentence


def test_the_momentum_of_a_memory_is_no_cause():
    found = judged(1.0, 0.1, settings={"momentum": 0.5, "instances": 0}, feature_std=0.001)
    assert found.word == "collapse"
    assert "momentum" not in found.sentence


@pytest.mark.parametrize(
    ("settings", "cause"),
    [
        ({"momentum": 0.1}, "momentum of 0.1"),
        ({"optimizer": "adamw", "lr": 0.5}, "learning rate of 0.5"),
        ({"batch_size": 8}, "batch of 8"),
        ({"momentum": 0.99, "batch_size": 256, "lr": 1e-3}, "stop-gradient"),
    ],
)
def test_the_cause_of_a_collapse(settings, cause):
    found = judged(1.0, 0.1, settings=settings, feature_std=0.001)
    assert found.word == "collapse"
    assert cause in found.sentence


def test_terms_that_rose_on_the_way_tell_of_the_learning_rate():
    found = records(1.0, 0.1, feature_std=0.001)
    found[10]["terms"]["loss"] = 9.0
    assert "lower it, or lengthen" in verdict(found, UNTRAINED).sentence


@pytest.mark.parametrize(
    ("settings", "cause"),
    [
        ({"weight_decay": 10.0}, "weight decay of 10"),
        ({"batch_size": 16}, "batch of 16"),
        ({"temperature": 2.0}, "temperature of 2"),
        ({"smallest_crop": 0.01}, "augmentation"),
        ({}, "learning rate"),
    ],
)
def test_the_cause_of_lost_dimensions(settings, cause):
    found = judged(1.0, 0.1, settings=settings, effective_rank=3.0)
    assert found.word == "partial collapse"
    assert cause in found.sentence


def test_answers_that_never_change_do_not_make_images_one():
    fixed = pretext(chance={"loss": 1.386}, fixed=True)
    assert judged(1.5, 1.386, pretext=fixed, feature_std=0.01).word == "learning slowly"
    assert judged(1.5, 0.1, pretext=fixed, feature_std=0.01).word == "collapse"
    pixels = judged(1.5, 0.9, pretext=pretext(fixed=True), feature_std=0.01)
    assert pixels.word == "learning slowly"
    assert "any image" in pixels.sentence


def test_answers_that_are_all_one_leave_nothing_to_learn():
    """BEiT with the words of a tokenizer that has one word for all."""
    one = pretext(chance={"loss": 0.0}, fixed=True)
    found = judged(6.2, 0.0, pretext=one, feature_std=0.01)
    assert found.word == "learning slowly"
    assert "nothing to learn" in found.sentence
    two = judged(6.2, 0.0, pretext=pretext(chance={"loss": 0.1}, fixed=True))
    assert "nothing to learn" not in two.sentence


@pytest.mark.parametrize(("used", "word"), [(1.0, "collapse"), (2.0, "healthy")])
def test_one_code_for_all_places_is_collapse(used, word):
    found = records(6.8, 2.0)
    found[-1]["watched"] = {"perplexity": used}
    assert verdict(found, UNTRAINED).word == word


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
    assert found.sentence.endswith("lower the learning rate")


@pytest.mark.parametrize("setting", ["critic_width", "hidden"])
def test_an_overpowering_critic_may_be_made_smaller_where_it_has_a_size(setting):
    found = verdict(game(critic=0.02, generator=5.0), BEGUN, {"width": 64, setting: 64})
    assert found.sentence.endswith(f"or take a smaller --{setting.replace('_', '-')}")


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


def test_one_record_shows_no_movement():
    found = verdict(records(6.8, 6.8, count=2)[-1:], UNTRAINED | {"effective_rank": None})
    assert "the terms move" not in found.sentence
    assert "unknown" not in found.sentence


def test_a_strong_weight_decay_is_named_whatever_it_does():
    found = judged(5.36, 5.36, settings={"weight_decay": 500.0}, pretext=APART)
    assert "weight decay of 500" in found.sentence
