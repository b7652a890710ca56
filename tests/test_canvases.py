"""The canvases that detection and segmentation are tested on."""

import numpy as np
from canvases import VISIBLE, compose

from commands.tiny import tree
from data.marked import coco, masks, said


def test_boxes_are_those_of_the_masks(tmp_path):
    root = coco(tmp_path / "coco")
    for part in ("train", "val"):
        what, classes = said(root, part), masks(root, part)
        for image in what["images"]:
            own = [a for a in what["annotations"] if a["image_id"] == image["id"]]
            assert 1 <= len(own) <= 4
            assert sum(a["area"] for a in own) == (classes[image["file_name"]] > 0).sum()
        for a in what["annotations"]:
            left, top, width, height = (int(v) for v in a["bbox"])
            mask = classes[what["images"][a["image_id"] - 1]["file_name"]] == a["category_id"]
            inside = mask[top : top + height, left : left + width]
            assert inside.sum() >= a["area"]
            assert inside.any(0).all() or inside.any(1).all()


def test_most_of_each_item_is_visible():
    draw = np.random.default_rng(0)
    items, whole = np.full((3, 12, 12), 200, np.uint8), []
    for _ in range(20):
        canvas, found, chosen = compose(items, np.arange(3), 32, draw)
        assert len(found) == len(chosen)
        assert np.sum(found, axis=0).max() <= 1  # no pixel is of two items
        for mask in found:
            rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
            box = (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
            whole.append(mask.sum() / box)
            assert (canvas[mask] > 100).all()
    assert min(whole) >= VISIBLE
    assert min(whole) < 1  # some overlap


def test_the_same_seed_gives_the_same_canvases(tmp_path):
    one, two = (tree(coco(tmp_path / name)) for name in ("one", "two"))
    assert one == two
