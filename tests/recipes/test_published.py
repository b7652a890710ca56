"""What the papers' settings make of a run, beyond their numbers: rates, decay, colours, blurs."""

import dataclasses

import pytest
import torch

from contract.small import PIXELS
from selftaught.nn.filtered import Sobel
from selftaught.optim import LARC, Schedule
from selftaught.recipes import RECIPES, find
from selftaught.recipes.parameters import call
from selftaught.views.image import Blur, Jitter, Solarize

PHOTOS = dataclasses.replace(
    PIXELS, channels=3, size=32, count=200_000, mean=(0.5, 0.4, 0.45), std=(0.25, 0.2, 0.3)
)
NARROW = {"encoder": "resnet-nano"}


def published(name, **more):
    return call(find(name), PHOTOS, {**RECIPES[name].published, **NARROW, **more})


def jitters(run):
    return [part for view in run.views.views for part in view.then if isinstance(part, Jitter)]


def blurs(run):
    return [part.p for view in run.views.views for part in view.then if isinstance(part, Blur)]


def test_barlow_twins_biases_have_a_rate_of_their_own():
    weights, others = published("barlow_twins", hidden=32, dim=16).optimizer.param_groups
    batches = 2048 / 256  # the authors' rates of 0.2 and 0.0048 are those of a batch of 256
    assert weights["lr"] == pytest.approx(0.2 * batches)
    assert others["lr"] == pytest.approx(0.0048 * batches)


@pytest.mark.parametrize(
    ("name", "more"), [("simsiam", {}), ("moco", {"queue": 64}), ("moco_v2", {"queue": 64})]
)
def test_all_parameters_decay_where_the_authors_let_them(name, more):
    groups = published(name, dim=16, **more).optimizer.param_groups
    assert {group["weight_decay"] for group in groups} == {1e-4}


@pytest.mark.parametrize(
    ("setting", "value", "names"),
    [
        ("optimizer", "larc", "swav deepcluster_v2"),
        ("clip_by", "tensor", "dino ibot"),
        ("clip_by", "part", "dinov2"),
        ("first_lr", 0.0625, "swav deepcluster_v2"),
        ("first_lr", 0.1, "ijepa"),
        ("last_decay", 10.0, "dino ibot ijepa"),
        ("last_decay", 5.0, "dinov2"),
        ("second_blur", 0.1, "byol barlow_twins vicreg moco_v3 dino ibot dinov2"),
        ("small_blur", 0.5, "dino ibot dinov2"),
        (
            "bicubic",
            True,
            "simclr simclr_v2 nnclr byol dino ibot dinov2 barlow_twins vicreg wmse amdim data2vec "
            "mae maskfeat beit",
        ),
    ],
)
def test_settings_are_those_of_these_authors_and_of_no_others(setting, value, names):
    found = {name for name, card in RECIPES.items() if card.published.get(setting) == value}
    assert found == set(names.split())


@pytest.mark.parametrize(
    ("name", "more", "bicubic"),
    [("byol", {}, True), ("vicreg", {}, True), ("moco_v2", {"queue": 64}, False)],
)
def test_crops_are_resized_as_the_authors_do(name, more, bicubic):
    views = published(name, dim=16, **more).views.views
    assert [view.cropper.bicubic for view in views] == [bicubic] * 2


def test_each_of_dinos_views_has_a_blur_of_its_own():
    run = published("dino", outputs=32, hidden=16, bottleneck=8, crops=3)
    assert blurs(run) == [1.0, 0.1, 0.5, 0.5, 0.5]
    solarized = [[s.p for s in v.then if isinstance(s, Solarize)] for v in run.views.views]
    assert solarized == [[], [0.2], [], [], []]


def test_deepcluster_sees_edges_alone():
    settings = {"clusters": 8, "components": 8}
    assert isinstance(published("deepcluster", **settings).method.encoder, Sobel)
    assert not isinstance(published("deepcluster", **settings, sobel=False).method.encoder, Sobel)


def test_weight_decay_rises_where_the_authors_let_it():
    photos = dataclasses.replace(PHOTOS, size=28)
    small = {"encoder": "vit-nano", "patch": 4, "dim": 16, "depth": 1, "heads": 2}
    run = call(find("ijepa"), photos, {**RECIPES["ijepa"].published, **small})
    weights, others = run.optimizer.param_groups
    assert weights["weight_decay"] * weights["last_decay"] == pytest.approx(0.4)
    assert others["weight_decay"] * others["last_decay"] == 0


def test_of_byol_no_bias_decays():
    groups = published("byol", hidden=32, dim=16).optimizer.param_groups
    assert {group["weight_decay"] for group in groups} == {1.5e-6, 0.0}


def test_swav_is_larc_on_every_parameter():
    run = published("swav", hidden=16, dim=8, prototypes=16)
    assert type(run.optimizer) is LARC
    assert {group["weight_decay"] for group in run.optimizer.param_groups} == {1e-6}


def test_amdim_is_adam_with_the_authors_averages():
    run = call(find("amdim"), PHOTOS, {**RECIPES["amdim"].published, "width": 8, "dim": 32})
    assert type(run.optimizer) is torch.optim.Adam
    assert run.optimizer.defaults["betas"] == (0.8, 0.999)


@pytest.mark.parametrize("name", ["byol", "barlow_twins", "vicreg"])
def test_one_view_is_always_blurred_and_the_other_seldom(name):
    assert blurs(published(name, hidden=32, dim=16)) == [1.0, 0.1]


@pytest.mark.parametrize(
    ("name", "more", "colours"),
    [
        ("simclr", {}, Jitter(0.8, 0.8, 0.8, 0.2, p=0.8)),
        ("byol", {}, Jitter(0.4, 0.4, 0.2, 0.1, p=0.8)),
        ("moco_v2", {"queue": 64}, Jitter(0.4, 0.4, 0.4, 0.1, p=0.8)),
        ("moco", {"queue": 64}, Jitter(0.4, 0.4, 0.4, 0.4, p=1.0)),
        ("instdisc", {"instances": 300, "noise": 64}, Jitter(0.4, 0.4, 0.4, 0.4, p=1.0)),
    ],
)
def test_colours_change_as_in_the_authors_code(name, more, colours):
    assert set(jitters(published(name, dim=16, **more))) == {colours}


@pytest.mark.parametrize(
    ("name", "more", "schedule"),
    [
        ("moco", {"queue": 64}, Schedule(0.0, cosine=False, drops=(0.6, 0.8), drop=0.1)),
        ("moco_v2", {"queue": 64}, Schedule(0.0)),
        ("barlow_twins", {"hidden": 32}, Schedule(0.01, last=1e-3)),
    ],
)
def test_rates_fall_as_in_the_authors_code(name, more, schedule):
    assert published(name, dim=16, **more).schedule == schedule
