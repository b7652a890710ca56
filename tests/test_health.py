"""One injected cause for each verdict, and healthy runs that raise none."""

import math

import pytest

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
