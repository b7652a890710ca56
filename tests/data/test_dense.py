import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as rle

from data.marked import DIGITS, coco, masks, said, say, voc
from selftaught.data.annotated import masked, require_sizes
from selftaught.data.dense import open_annotated
from selftaught.data.voc import CLASSES
from selftaught.errors import UserError
from selftaught.method import VOID


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return coco(tmp_path_factory.mktemp("data") / "coco")


@pytest.fixture
def root(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "coco")


def opened(root, part="train", *, masks=False, classes=None):
    return open_annotated(root, part, channels=1, masks=masks, classes=classes)


def refused(root, *words, part="train", masks=False):
    with pytest.raises(UserError) as error:
        opened(root, part, masks=masks)
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def changed(root, change, part="train"):
    what = said(root, part)
    change(what)
    say(root, part, what)
    return root


# COCO


def test_boxes_and_classes_are_those_that_were_written(root):
    found, what = opened(root), said(root, "train")
    assert found.classes == DIGITS
    assert (len(found.images), found.left_out) == (12, 0)
    for i, image in enumerate(what["images"]):
        own = [a for a in what["annotations"] if a["image_id"] == image["id"]]
        objects = found.objects(i)
        assert found.images.names[i] == image["file_name"]
        assert objects.labels.tolist() == [a["category_id"] for a in own]
        expected = [[x, y, x + w, y + h] for x, y, w, h in (a["bbox"] for a in own)]
        assert objects.boxes.tolist() == expected
        assert objects.areas.tolist() == [a["area"] for a in own]
        assert not objects.ignored.any()


def test_masks_are_those_that_were_written(root):
    found, expected = opened(root, "test", masks=True), masks(root, "val")
    for i, name in enumerate(found.images.names):
        np.testing.assert_array_equal(found.mask(i).numpy(), expected[name])


def test_images_come_with_their_masks(root):
    found = opened(root, masks=True)
    both = masked(found, torch.tensor([3, 1]))
    x, used, _ = both.gather(torch.tensor([0, 1]))
    assert used.tolist() == [0, 1]
    for y, i in zip(x, (3, 1), strict=True):
        assert torch.equal(y[:1], found.images.read(i))
        assert torch.equal(y[1], found.mask(i))


def outlined(root, shapes):
    """The first image has one object for each of these (category, outline)."""

    def change(what):
        what["annotations"] = [a for a in what["annotations"] if a["image_id"] != 1]
        what["annotations"] += [
            {
                "id": 900 + k,
                "image_id": 1,
                "category_id": c,
                "bbox": [0, 0, 9, 9],
                "segmentation": shape,
                "iscrowd": int(isinstance(shape, dict)),
            }
            for k, (c, shape) in enumerate(shapes)
        ]

    return opened(changed(root, change), masks=True)


def test_every_kind_of_outline_is_read(root):
    polygons = [[0, 0, 4, 0, 4, 3, 0, 3], [10, 10, 12, 10, 12, 12, 10, 12]]
    plain = np.zeros((32, 32), np.uint8)
    plain[20:24, 5:9] = 1
    code = rle.encode(np.asfortranarray(plain))
    code["counts"] = code["counts"].decode()
    runs = {"size": [32, 32], "counts": [32 * 30, 5, 32 * 2 - 5]}  # five pixels of column 30
    found = outlined(root, [(1, polygons), (2, code), (3, runs)]).mask(0)
    expected = np.zeros((32, 32), np.uint8)
    expected[:3, :4], expected[10:12, 10:12] = 1, 1
    expected[20:24, 5:9], expected[:5, 30] = 2, 3
    np.testing.assert_array_equal(found.numpy(), expected)


def test_what_two_classes_claim_is_void(root):
    one, two = [[0, 0, 4, 0, 4, 4, 0, 4]], [[2, 0, 6, 0, 6, 4, 2, 4]]
    found = outlined(root, [(1, one), (2, two), (1, one)]).mask(0)
    assert found[0, :7].tolist() == [1, 1, VOID, VOID, 2, 2, 0]


def test_more_classes_than_a_mask_holds_are_refused(root):
    more = [{"id": 1000 + k, "name": f"kind {k}"} for k in range(300)]
    changed(root, lambda said: said["categories"].extend(more))
    refused(root, "categories", "at most 254", "detection", masks=True)
    assert len(opened(root).classes) > 300


def test_crowds_are_not_asked_for(root):
    changed(root, lambda what: what["annotations"][0].update(iscrowd=1))
    assert opened(root).objects(0).ignored[0]


def test_the_test_part_has_the_numbers_of_the_train_part(root):
    def turned(what):
        for c in what["categories"]:
            c["id"] = 10 - c["id"]
        for a in what["annotations"]:
            a["category_id"] = 10 - a["category_id"]

    before = opened(root, "test").objects(0).labels
    after = opened(changed(root, turned, "val"), "test", classes=DIGITS).objects(0).labels
    assert torch.equal(before, after)


@pytest.mark.parametrize("place", ["train2017", "images/train2017", "."])
def test_images_are_found_where_coco_has_them(root, place):
    (root / "images").rename(root / "kept")
    (root / place).mkdir(parents=True, exist_ok=True)
    for file in (root / "kept").glob("train*"):
        file.rename(root / place / file.name)
    shutil.rmtree(root / "kept")
    old = root / "annotations" / "instances_train.json"
    old.rename(old.with_name("instances_train2017.json"))
    assert opened(root).images.read(0).shape == (1, 32, 32)


def test_one_bad_box_is_left_out(root):
    def change(what):
        what["annotations"][0]["bbox"] = [3, 3, 0, 5]

    before = len(opened(root).objects(0).boxes)
    found = opened(changed(root, change))
    assert (found.left_out, len(found.objects(0).boxes)) == (1, before - 1)


@pytest.mark.parametrize(
    "box", [[3, 3, 0, 5], [40, 3, 5, 5], [-9, 0, 12, 5], [0, 0, float("nan"), 5]]
)
def test_bad_boxes_are_refused(root, box):
    def change(what):
        for a in what["annotations"][:2]:
            a["bbox"] = box

    refused(changed(root, change), "empty or outside their image", "annotation 1")


def test_a_box_is_cut_at_the_edge(root):
    changed(root, lambda what: what["annotations"][0].update(bbox=[-0.5, 30, 8, 2.6]))
    assert opened(root).objects(0).boxes[0].tolist() == [0, 30, 7.5, 32]


def test_bad_annotations_are_named(root):
    good = said(root, "train")

    def bad(change, *words, masks=False):
        say(root, "train", json.loads(json.dumps(good)))
        refused(changed(root, change), "instances_train.json", *words, masks=masks)

    bad(lambda what: what["annotations"][4].update(category_id=77), "annotation 5", "category 77")
    bad(lambda what: what["annotations"][4].update(image_id=77), "annotation 5", "unknown image")
    bad(lambda what: what.pop("categories"), "categories", "COCO's format")
    bad(lambda what: what["annotations"][0].pop("bbox"), "bbox")
    bad(lambda what: what["images"].append(what["images"][0]), "twice")
    bad(lambda what: what.update(images=[], annotations=[]), "0 image")
    bad(lambda what: what["images"][3].update(file_name="no.png"), "no.png")
    bad(lambda what: what["images"][0].update(file_name="../images/a.png"), "outside")
    bad(lambda what: what["annotations"][2].pop("segmentation"), "no outline", masks=True)
    bad(
        lambda what: what["annotations"][2].update(segmentation=[[0, 0, 1, 1]]),
        "no outline",
        masks=True,
    )
    bad(
        lambda what: what["annotations"][2]["segmentation"].update(size=[9, 9]),
        "32 x 32",
        masks=True,
    )


@pytest.mark.parametrize("counts", [[5, 5], [5, 5000], [-1, 1025], "", "R", "0000", "\xff", [1.5]])
def test_a_damaged_outline_is_named_where_it_is_read(root, counts):
    found = outlined(root, [(1, {"size": [32, 32], "counts": counts})])
    with pytest.raises(UserError, match="outline in train-00001"):
        found.mask(0)


def test_bad_files_are_named(root, tmp_path):
    path = root / "annotations" / "instances_train.json"
    path.write_text("{")
    refused(root, "cannot be read")
    shutil.copy(path, path.with_name("instances_train2.json"))
    refused(root, "several")
    path.unlink()
    path.with_name("instances_train2.json").unlink()
    refused(root, "no annotations/instances_train*.json")
    refused(tmp_path, "neither a COCO folder")
    refused(tmp_path / "no", "no folder")


def test_images_of_another_size_are_refused(root):
    found = opened(root)
    require_sizes(found, range(12))
    Image.new("L", (40, 32)).save(root / "images" / found.images.names[5])
    require_sizes(found, range(5))
    with pytest.raises(UserError, match="32 x 40 pixels, its annotations say 32 x 32"):
        require_sizes(found, range(12))


# VOC


@pytest.fixture
def pascal(whole, tmp_path):
    return voc(tmp_path / "voc", whole)


@pytest.mark.parametrize("part", ["train", "test"])
def test_voc_says_what_coco_says(whole, pascal, part):
    one = opened(whole, part)
    other = opened(pascal, part, classes=CLASSES[:3])
    for i in range(len(one.images)):
        assert torch.equal(one.objects(i).boxes, other.objects(i).boxes)
        assert torch.equal(one.objects(i).labels, other.objects(i).labels)
    assert one.sizes == other.sizes
    one, other = (opened(root, part, masks=True) for root in (whole, pascal))
    assert other.classes == CLASSES
    assert all(torch.equal(one.mask(i), other.mask(i)) for i in range(len(one.images)))


def test_the_classes_of_voc_are_in_order(pascal):
    assert list(CLASSES) == sorted(CLASSES)
    assert len(CLASSES) == 20
    assert opened(pascal).classes == CLASSES[:3]


def test_difficult_objects_are_not_asked_for(pascal):
    file = pascal / "Annotations/train-00001.xml"
    file.write_text(file.read_text().replace("difficult>0", "difficult>1"))
    assert opened(pascal).objects(0).ignored.all()


def test_the_border_of_a_mask_is_void(pascal):
    file = pascal / "SegmentationClass/train-00001.png"
    image = Image.open(file)
    x = np.array(image)
    x[0] = 255
    new = Image.fromarray(x)
    new.putpalette(image.getpalette())
    new.save(file)
    assert opened(pascal, masks=True).mask(0)[0].tolist() == [VOID] * 32


def test_bad_voc_folders_are_refused(pascal):
    def other(path, what):
        file = pascal / path
        before = file.read_bytes()
        if what is None:
            file.unlink()
        elif isinstance(what, bytes):
            file.write_bytes(what)
        else:
            file.write_text(what(file.read_text()) if callable(what) else what)
        return lambda: file.write_bytes(before)

    for path, what, words, task in (
        ("ImageSets/Main/train.txt", None, ["no train part", "trainval.txt"], False),
        ("ImageSets/Segmentation/train.txt", "", ["0 image(s)"], True),
        ("ImageSets/Main/train.txt", "no\nno2", ["no.jpg", "not in"], False),
        ("ImageSets/Main/train.txt", b"caf\xe9\n", ["train.txt cannot be read", "UTF-8"], False),
        ("JPEGImages/train-00002.jpg", None, ["train-00002.jpg"], False),
        ("Annotations/train-00002.xml", None, ["train-00002.xml"], False),
        ("Annotations/train-00002.xml", "<a>", ["train-00002.xml", "VOC's format"], False),
        ("Annotations/train-00002.xml", "<a></a>", ["no size/height"], False),
        ("SegmentationClass/train-00002.png", None, ["train-00002.png"], True),
    ):
        undo = other(path, what)
        refused(pascal, *words, masks=task)
        undo()
    assert len(opened(pascal).images) == 12


def test_bad_masks_are_named(pascal):
    path = pascal / "SegmentationClass/train-00001.png"
    found = opened(pascal, masks=True)
    for image, word in (
        (Image.new("L", (32, 32), 77), "class 77"),
        (Image.new("RGB", (32, 32)), "RGB image"),
        (Image.new("L", (32, 30)), "30 x 32 pixels"),
    ):
        image.save(path)
        with pytest.raises(UserError, match=word):
            found.mask(0)
    path.write_bytes(b"no")
    with pytest.raises(UserError, match="no sound PNG"):
        found.mask(0)


def test_a_class_of_the_test_part_alone_is_refused(pascal):
    with pytest.raises(UserError, match="a class that the train part does not have"):
        opened(pascal, "test", classes=CLASSES[5:7])


def test_the_digest_knows_other_annotations(root, pascal):
    before = opened(root).digest
    changed(root, lambda what: what["annotations"][0].update(category_id=2))
    changed(root, lambda what: what["annotations"][0].update(category_id=3))
    assert opened(root).digest != before
