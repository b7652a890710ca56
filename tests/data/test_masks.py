import numpy as np
import pytest
from PIL import Image

from selftaught.data.images import has_part, open_images, open_labels
from selftaught.data.masks import open_masks
from selftaught.errors import UserError


def refused(call, *words):
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value), caught.value


def save(path, pixels, mode=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    if mode == "P":
        image = image.convert("P")
        image.putdata(pixels.flatten().tolist())
        image.putpalette([7, 0, 0, 200, 1, 2, 50, 60, 70] + [0] * 759)
    (image.convert(mode) if mode not in (None, "P") else image).save(path)


def data(root, count=3, side=6, part=""):
    draw = np.random.default_rng(0)
    masks = draw.integers(0, 3, (count, side, side + 1)).astype(np.uint8)
    masks[:, 0, 0] = 255
    for i in range(count):
        save(
            root / part / "images" / "sub" / f"{i}.jpg",
            draw.integers(0, 256, (side, side + 1, 3), np.uint8),
        )
        save(root / part / "masks" / "sub" / f"{i}.png", masks[i])
    return masks


def test_masks_are_read_beside_the_images(tmp_path):
    expected = data(tmp_path)
    assert open_images(tmp_path).names == [f"images/sub/{i}.jpg" for i in range(3)]
    assert open_labels(tmp_path, "train") is None
    found = open_masks(tmp_path, "train")
    assert len(found) == 3
    for i in range(3):
        assert found.read(i).tolist() == expected[i].tolist()


def test_a_palette_is_of_class_ids(tmp_path):
    expected = data(tmp_path)
    save(tmp_path / "masks" / "sub" / "1.png", expected[1] % 255, "P")
    assert open_masks(tmp_path, "train").read(1).tolist() == (expected[1] % 255).tolist()


def test_parts_have_masks_of_their_own(tmp_path):
    data(tmp_path, part="train")
    expected = data(tmp_path, part="val", count=2)
    assert has_part(tmp_path, "test")
    assert open_images(tmp_path, "test").names == [f"val/images/sub/{i}.jpg" for i in range(2)]
    assert open_masks(tmp_path, "test").read(1).tolist() == expected[1].tolist()


def test_parts_may_have_other_names(tmp_path):
    expected = data(tmp_path, part="Training")
    data(tmp_path, part="Testing", count=2)
    assert open_masks(tmp_path, "train").read(0).tolist() == expected[0].tolist()


def test_hidden_files_are_no_masks(tmp_path):
    data(tmp_path)
    (tmp_path / "masks" / "sub" / "._0.png").write_bytes(b"of another system")
    assert len(open_masks(tmp_path, "train")) == 3


def test_other_data_have_none(tmp_path):
    for name in ("images/a.png", "masks/b.png", "other/c.png"):  # three classes
        save(tmp_path / name, np.zeros((4, 4), np.uint8))
    assert len(open_images(tmp_path)) == 3
    assert open_masks(tmp_path, "train") is None
    assert open_labels(tmp_path, "train").classes == ("images", "masks", "other")
    assert open_masks("digits", "train") is None


def test_what_does_not_fit(tmp_path):
    expected = data(tmp_path)
    first = tmp_path / "masks" / "sub" / "0.png"

    def read():
        return open_masks(tmp_path, "train").read(0)

    save(first, np.zeros((6, 7, 3), np.uint8))
    refused(read, "0.png is of mode RGB", "8 bits")
    save(first, expected[0].astype(np.uint16))
    refused(read, "0.png is of mode I;16")
    save(first, expected[0].T)
    refused(read, "0.png has 6 x 7 pixels and its image 7 x 6")
    first.write_bytes(first.read_bytes()[:40])
    refused(read, "0.png is no sound PNG")
    first.unlink()
    refused(read, "no mask of 1 images, images/sub/0.jpg the first", "masks/sub/0.png")
    save(first, expected[0])
    save(tmp_path / "masks" / "other.png", expected[0])
    refused(read, "other.png is the mask of no image")


def test_two_images_of_one_mask(tmp_path):
    data(tmp_path)
    save(tmp_path / "images" / "sub" / "0.png", np.zeros((6, 7), np.uint8))
    refused(lambda: open_masks(tmp_path, "train"), "of no image or of several")
