import pytest

from contract.small import PIXELS, build
from selftaught.errors import UserError


@pytest.mark.parametrize("name", ["moco", "moco_v2", "nnclr", "simclr_v2"])
def test_a_queue_longer_than_the_data_is_refused(name):
    with pytest.raises(UserError, match="--queue 32 or less"):
        build(name, queue=PIXELS.count + 1)
    assert len(build(name, queue=PIXELS.count).method.queue.rows) == PIXELS.count


@pytest.mark.parametrize(("name", "option"), [("instdisc", "noise"), ("pirl", "negatives")])
def test_more_negatives_than_images_are_refused(name, option):
    with pytest.raises(UserError, match=f"--{option} 65 of 64 images .*; use 32 or less"):
        build(name, **{option: 65})
    with pytest.raises(UserError, match=f"--{option} 41 of 40 images .*; use 20 or less"):
        build(name, instances=40, **{option: 41})
    build(name, instances=40, **{option: 40})


@pytest.mark.parametrize("name", ["moco", "moco_v2"])
def test_groups_of_one_image_are_refused(name):
    with pytest.raises(UserError, match="--groups 8 or less, or a larger --batch-size"):
        build(name, groups=16)
    build(name, groups=8)
