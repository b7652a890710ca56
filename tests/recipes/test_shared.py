from dataclasses import replace

import pytest
import torch

from contract.small import PIXELS, build
from selftaught.errors import UserError
from selftaught.optim import Schedule
from selftaught.recipes import RECIPES, find
from selftaught.recipes.parameters import call, parameters
from selftaught.recipes.shared import side
from selftaught.views.image import Jitter, View


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({}, torch.optim.AdamW),
        ({"optimizer": "adam"}, torch.optim.Adam),
        ({"optimizer": "sgd"}, torch.optim.SGD),
    ],
)
def test_the_optimizer_is_the_one_named(settings, kind):
    assert type(build("simclr", **settings).optimizer) is kind


def test_the_schedule_is_the_one_asked_for():
    found = build("simclr", warmup=0.2, last_lr=0.1, first_lr=0.5).schedule
    assert found == Schedule(0.2, last=0.1, first=0.5)
    found = build("simclr", schedule="constant", drops="0.6,0.8", drop=0.5).schedule
    assert found == Schedule(0.1, cosine=False, drops=(0.6, 0.8), drop=0.5)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"optimizer": "adagrad"}, "adamw, adam, sgd, lars or larc"),
        ({"schedule": "linear"}, "cosine or constant"),
        ({"drops": "0.5"}, "--schedule constant"),
        ({"last_decay": -1.0}, "--last-decay"),
        ({"weight_decay": -1.0}, "--weight-decay"),
        ({"bias_lr": -1.0}, "--bias-lr"),
        ({"clip": -1.0}, "--clip"),
        ({"clip_by": "layer"}, "whole, part or tensor"),
        ({"schedule": "constant", "drops": "0.5,x"}, "0.6,0.8"),
        ({"schedule": "constant", "drops": "120,160"}, "--drops"),
    ],
)
def test_training_that_cannot_be_is_refused(settings, named):
    with pytest.raises(UserError, match=named):
        build("simclr", **settings)


@pytest.mark.parametrize("name", [n for n in RECIPES if "bicubic" in parameters(find(n))])
def test_every_crop_is_resized_as_asked(name):
    for asked in ({}, {"bicubic": True}):
        views = build(name, **asked).views.views
        crops = [view.cropper for view in views if isinstance(view, View)]  # and not a jigsaw
        assert crops
        assert {crop.bicubic for crop in crops} == {bool(asked)}


def test_colours_are_shares_of_the_jitter():
    run = build("simclr", jitter=0.4, saturation=0.5, hue=0.25, jitter_share=0.7)
    (view, _) = run.views.views
    (jitter,) = [part for part in view.then if isinstance(part, Jitter)]
    assert jitter == Jitter(0.4, 0.4, 0.2, 0.1, p=0.7)


LARGER = replace(PIXELS, size=32, count=4096)


@pytest.mark.parametrize("name", ["simclr", "swav", "rotation", "exemplar"])
def test_views_that_a_network_cannot_see_are_as_large_as_the_image(name):
    views = call(find(name), LARGER, {"encoder": "convnext_atto"}).views
    drawn = views.draw(torch.Generator(), 2)
    images = torch.zeros(2, LARGER.channels, 32, 32, dtype=torch.uint8)
    seen = views.apply(views.crop(images, drawn), drawn)
    assert {x.shape[-1] for x in seen} == {32}


@pytest.mark.parametrize("size", [16, 28, 36, 100])
def test_a_whole_view_is_as_large_as_the_image_where_patches_overlap(size):
    data = replace(PIXELS, size=size)
    encoder = call(find("cpc"), data, {"width": 8}).method.encoder
    assert side(data, encoder, 1.0) == size


@pytest.mark.parametrize("name", ["jigsaw", "relative_patch", "pirl"])
def test_tiles_that_a_network_cannot_see_are_refused(name):
    with pytest.raises(UserError, match=r"cannot see tiles of .* pixels; use a larger --size"):
        call(find(name), LARGER, {"encoder": "convnext_atto"})
