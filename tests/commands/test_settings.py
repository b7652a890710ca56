"""What a run takes where nothing is asked for."""

import multiprocessing

import pytest
import torch

from selftaught.commands import settings
from selftaught.data.batches import Readers
from selftaught.errors import UserError
from selftaught.recipes import RECIPES, find

PAPER = {"batch_size": 512, "lr": 0.1}
ENOUGH = 100 * 512


@pytest.mark.parametrize(
    ("given", "count", "size", "scale"),
    [
        ({}, ENOUGH, 96, "paper"),
        ({}, 10 * ENOUGH, 224, "paper"),
        ({}, ENOUGH - 1, 224, "small"),  # too few images for the paper's batch
        ({}, ENOUGH, 95, "small"),  # no photographs
        ({"batch_size": 256}, ENOUGH, 224, "small"),  # a smaller batch than the paper's
        ({"batch_size": 512}, ENOUGH, 224, "paper"),
        ({"batch_size": 1024}, ENOUGH, 224, "paper"),
        ({"lr": 0.01}, ENOUGH, 224, "paper"),  # other settings change nothing
    ],
)
def test_the_papers_settings_suit_photographs_in_number(given, count, size, scale):
    assert settings.scale_for(None, PAPER, given, count, size) == scale


@pytest.mark.parametrize("published", [{}, {"lr": 0.1}])
def test_without_a_published_batch_it_is_small(published):
    assert settings.scale_for(None, published, {}, 10**7, 224) == "small"


@pytest.mark.parametrize("asked", ["small", "paper"])
def test_what_is_asked_for_is_given(asked):
    for given, count, size in (({}, 10, 8), ({"batch_size": 2}, 10, 8), ({}, 10**7, 224)):
        assert settings.scale_for(asked, PAPER, given, count, size) == asked
    assert settings.scale_for("small", {}, {}, 10, 8) == "small"


def test_the_papers_settings_cannot_be_asked_for_where_there_are_none():
    with pytest.raises(UserError, match="--scale"):
        settings.scale_for("paper", {}, {}, 10**7, 224)


def test_arguments_are_the_defaults_then_the_papers_then_those_given():
    recipe, published = find("simclr"), RECIPES["simclr"].published
    own = settings.arguments(recipe, {})
    assert own["temperature"] == 0.1
    assert own["batch_size"] != published["batch_size"]
    paper = settings.arguments(recipe, {"temperature": 0.7}, published)
    assert paper["batch_size"] == published["batch_size"]
    assert paper["temperature"] == 0.7
    assert paper.keys() == own.keys()


@pytest.mark.parametrize(
    ("name", "given", "count", "smaller"),
    [
        ("swav", {}, 10**5, {"prototypes": 256, "queue": 0}),
        ("swav", {"batch_size": 64}, 10**5, {"prototypes": 64}),
        ("swav", {"batch_size": 64, "queue": 128}, 10**5, {"prototypes": 192}),
        ("swav", {"batch_size": 64, "queue": 1024}, 10**5, {"prototypes": 256}),
        ("swav", {"batch_size": 64, "prototypes": 300}, 10**5, {"prototypes": 300}),
        ("moco", {}, 1000, {"queue": 500, "groups": 8}),
        ("moco", {"batch_size": 8}, 1000, {"groups": 4}),
        ("moco", {"batch_size": 8, "groups": 8}, 1000, {"groups": 8}),
        ("instdisc", {}, 10**5, {"noise": 4096}),
        ("instdisc", {}, 1000, {"noise": 500}),
        ("instdisc", {"instances": 100}, 1000, {"noise": 50}),
        ("pirl", {"instances": 0}, 1000, {"negatives": 500}),
    ],
)
def test_what_few_images_cannot_fill_is_made_smaller_unless_asked_for(name, given, count, smaller):
    own = settings.arguments(find(name), given)
    assert {n: settings.fitted(own, given, count)[n] for n in smaller} == smaller


def test_the_papers_prototypes_are_kept_where_a_queue_helps():
    given = {"batch_size": 256, "queue": 3840}  # of the authors
    own = settings.arguments(find("swav"), given, RECIPES["swav"].published)
    assert settings.fitted(own, given, 10**6)["prototypes"] == 3000


def test_an_unknown_argument_is_answered_with_the_nearest():
    with pytest.raises(UserError, match="temperature"):
        settings.arguments(find("simclr"), {"temprature": 0.7})


@pytest.fixture
def forked(monkeypatch):
    """Processes are started by fork, as on Linux before Python 3.14."""
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none: "fork")


@pytest.mark.parametrize(
    ("cores", "processes", "later"),
    [
        (8, 1, 7),  # one core is this process's
        (64, 1, settings.WORKERS),
        (64, 8, 7),  # of eight processes on a machine each has its share
        (1, 1, 0),
    ],
)
def test_on_a_gpu_workers_are_as_many_as_cores(monkeypatch, forked, cores, processes, later):
    monkeypatch.setattr(settings, "granted", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(processes))
    assert settings.readers_for(None, torch.device("cuda")) == Readers(later=later)


@pytest.mark.parametrize("known", [True, False])
def test_no_worker_is_started_unasked_where_that_runs_the_script_again(monkeypatch, known):
    monkeypatch.setattr(settings, "granted", lambda: 8)
    ways = ["spawn", "fork"]
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ways)
    monkeypatch.setattr(
        multiprocessing, "get_start_method", lambda allow_none: "forkserver" if known else None
    )
    assert settings.readers_for(None, torch.device("cuda")) == Readers()
    assert settings.readers_for(2, torch.device("cuda")) == Readers(now=2)


def test_on_a_processor_there_are_no_workers_unless_they_are_asked_for():
    assert settings.readers_for(None, torch.device("cpu")) == Readers()
    assert settings.readers_for(3, torch.device("cpu")) == Readers(now=3)
    assert settings.readers_for(0, torch.device("cuda")) == Readers()
