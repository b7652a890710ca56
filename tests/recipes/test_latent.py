import pytest

from contract.small import PIXELS
from selftaught.recipes import RECIPES, find
from selftaught.recipes.parameters import call

SMALL = {"encoder": "vit-nano", "patch": 2}


@pytest.mark.parametrize(("name", "half", "last"), [("data2vec", 0.5, 1e-5), ("ijepa", 0.55, 1e-6)])
def test_the_papers_learning_rate_rises_early_and_does_not_end_at_zero(name, half, last):
    published = dict(RECIPES[name].published)
    schedule = call(find(name), PIXELS, published | SMALL).schedule
    assert [schedule(p) for p in (0.025, 0.05)] == [pytest.approx(half), 1]
    assert schedule(0.051) < 1
    assert schedule(1 - 1e-9) * published["lr"] == pytest.approx(last, rel=1e-3)


@pytest.mark.parametrize("name", ["data2vec", "ijepa"])
def test_the_papers_patch_is_that_of_the_encoders_name(name):
    published = RECIPES[name].published
    assert f"_patch{published['patch']}_" in published["encoder"]
