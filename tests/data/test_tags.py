import numpy as np
import pytest
from PIL import Image

from selftaught.data.images import open_images, open_labels
from selftaught.data.tags import open_tags
from selftaught.errors import UserError

X = np.zeros((4, 5, 5), np.uint8)
Y = np.array([[0, 1], [1, 1], [-1, 0], [0, 0]])


def refused(call, *words):
    with pytest.raises(UserError) as caught:
        call()
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value), caught.value


def folder(root, text, names=("b/x.png", "a.png", "train.png")):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(root / name)
    (root / "labels.csv").write_bytes(text.encode("utf-8") if isinstance(text, str) else text)
    return root


def test_an_archive(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, x=X, y=Y, x_test=X[:2], y_test=Y[:2] == 1, classes=np.array(["cat", "dog"]))
    found = open_tags(path, "train")
    assert found.values.tolist() == Y.tolist()
    assert found.classes == ("cat", "dog")
    assert open_tags(path, "test").values.tolist() == [[0, 1], [1, 1]]
    assert open_labels(path, "train") is None
    np.savez(path, x=X, y=Y)
    assert open_tags(path, "train").classes == ("0", "1")


def test_one_label_an_image_is_no_tag(tmp_path):
    np.savez(tmp_path / "x.npz", x=X, y=np.arange(4))
    assert open_tags(tmp_path / "x.npz", "train") is None
    assert open_tags("digits", "train") is None
    np.savez(tmp_path / "x.npz", x=X)
    assert open_tags(tmp_path / "x.npz", "train") is None


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"y": Y * 2}, "0, 1 or -1"),
        ({"y": Y.astype(float)}, "integers (N, K)"),
        ({"y": Y[:3]}, "for 4 images"),
        ({"classes": np.array(["a", "b", "c"])}, "give 2 texts"),
        ({"classes": np.array(["a", "a"])}, "names a class twice"),
    ],
)
def test_archives_that_do_not_fit(tmp_path, change, word):
    np.savez(tmp_path / "x.npz", **({"x": X, "y": Y} | change))
    refused(lambda: open_tags(tmp_path / "x.npz", "train"), "x.npz", word)


def test_a_table_beside_the_files(tmp_path):
    text = '\ufeffname,cat,"a dog, or two"\r\ntrain.png,1,0\r\n"b/x.png",-1,1\r\na.png,0,0\r\n'
    root = folder(tmp_path, text)
    found = open_tags(root, "train")
    names = open_images(root).names
    values = dict(zip(names, found.values.tolist(), strict=True))
    assert values == {"a.png": [0, 0], "b/x.png": [-1, 1], "train.png": [1, 0]}
    assert found.classes == ("cat", "a dog, or two")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["no header"]),
        ("file,cat\na.png,1\n", ["begin it with name,CLASS"]),
        ("name\na.png\n", ["no header"]),
        ("name,cat\na.png,1\n", ["no row for 2 of 3 images", "b/x.png the first"]),
        ("name,cat\na.png,1\nb/x.png,1\na.png,0\ntrain.png,0\n", ["a.png twice"]),
        ("name,cat\na.png,2\nb/x.png,1\ntrain.png,0\n", ["the row of a.png"]),
        ("name,cat\na.png,1,0\nb/x.png,1\ntrain.png,0\n", ["the row of a.png"]),
        ("name,cat,cat\na.png,1,0\nb/x.png,1,0\ntrain.png,0,0\n", ["names a class twice"]),
        ('name,cat\n"a.png,1\n', ["cannot be read"]),
        (b"name,cat\na\xff.png,1\n", ["cannot be read", "UTF-8"]),
    ],
)
def test_tables_that_do_not_fit(tmp_path, text, words):
    refused(lambda: open_tags(folder(tmp_path, text), "train"), "labels.csv", *words)


def test_objects_are_not_read(tmp_path):
    x = np.zeros((4, 5, 6), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", x=x, y=np.array(["a", "b", "a", None], dtype=object))
    with pytest.raises(UserError, match="without objects"):
        open_tags(tmp_path / "x.npz", "train")
