import pytest
import torch

from contract.small import BATCH, PIXELS, build, tokenizer
from selftaught.recipes import RECIPES, find
from selftaught.recipes.parameters import call

LENGTH = 14**2  # patches of the papers' images


def paper(name, **more):
    """The recipe with the paper's settings, but for the encoder and the size of the images."""
    settings = dict(RECIPES[name].published) | {"encoder": "vit-nano", "patch": 4} | more
    return call(find(name), PIXELS, settings)


def test_simmims_learning_rate_falls_once():
    schedule = paper("simmim").schedule
    assert [schedule(p) for p in (0.0125, 0.5, 0.874)] == [1, 1, 1]
    assert schedule(0.876) == pytest.approx(0.1)


@pytest.mark.parametrize(("name", "last"), [("beit", 1e-5), ("maskfeat", 8e-6), ("mae", 0.0)])
def test_where_the_learning_rate_ends(name, last):
    more = {"tokenizer": tokenizer(), "smallest_block": 2} if name == "beit" else {}
    ends = paper(name, **more).schedule(1 - 1e-9) * RECIPES[name].published["lr"]
    assert ends == pytest.approx(last, rel=0.01, abs=1e-9)


def test_the_papers_blocks():
    beit, maskfeat = RECIPES["beit"].published, RECIPES["maskfeat"].published
    assert round(beit["ratio"] * LENGTH) == 75
    assert maskfeat["smallest_block"] == round(maskfeat["ratio"] * LENGTH) // 5


@pytest.mark.parametrize("name", ["mae", "simmim", "maskfeat", "beit"])
def test_the_papers_patch_is_that_of_the_encoders_name(name):
    published = RECIPES[name].published
    assert f"_patch{published['patch']}_" in published["encoder"]


@pytest.mark.parametrize("jitter", [0.0, 0.4])
def test_beits_colours_change_only_where_asked_for(jitter):
    views = build("beit", jitter=jitter).views
    x = torch.full((BATCH, 1, 16, 16), 100, dtype=torch.uint8)
    parameters = views.draw(torch.Generator().manual_seed(0), BATCH)
    (view,) = views.apply(views.crop(x, parameters), parameters)
    assert (len(view.mean(dim=(1, 2, 3)).unique()) > 1) == (jitter > 0)
