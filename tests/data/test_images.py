import gzip
import os
import pickle
import socket
import struct
import types
import urllib.error

import numpy as np
import pytest
import torch
from PIL import Image

from selftaught.data import sources as module
from selftaught.data.decode import Broken, size
from selftaught.data.images import (
    ArrayImages,
    FolderImages,
    check,
    has_part,
    open_images,
    open_labels,
)
from selftaught.errors import UserError


def picture(path, value=0, shape=(4, 6, 3)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full(shape, value, dtype=np.uint8)).save(path)


def folder(root, *names, shape=(4, 6, 3)):
    for value, name in enumerate(names):
        picture(root / name, value, shape)
    return root


def broken(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"<html>")


def refused(call, *words):
    """The message of the UserError: one line, with these words."""
    with pytest.raises(UserError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
    return message


# Folders


def test_a_folder_at_any_depth_sorted_by_name(tmp_path):
    folder(tmp_path, "b.png", "A.JPG", "deep/er/c.webp", "deep/a.gif", ".hidden.png", ".git/d.png")
    (tmp_path / "notes.txt").write_text("no image")
    images = open_images(tmp_path)
    assert images.names == ["A.JPG", "b.png", "deep/a.gif", "deep/er/c.webp"]
    assert (len(images), images.channels, images.sides) == (4, 3, 4)
    assert images.name == tmp_path.name
    assert images.read(1).shape == (3, 4, 6)
    assert images.read(1).unique().tolist() == [0]
    assert open_images(str(tmp_path)).names == images.names


def test_names_with_spaces_unicode_bytes_and_255_letters(tmp_path):
    folder(tmp_path, "a b.png", "ä 🐈.png", f"{'x' * 251}.png", "<img onerror=alert(1)>.png")
    raw = os.fsencode(tmp_path) + b"/\xff.png"
    os.link(tmp_path / "a b.png", raw)
    images = open_images(tmp_path)
    assert len(images) == 5
    assert check(images) == []
    assert len(images.fingerprint()) == 16


def test_links_are_followed_and_loops_survived(tmp_path):
    outside = folder(tmp_path / "outside", "far.png")
    data = folder(tmp_path / "data", "cat/a.png", "dog/b.png")
    os.symlink(data, data / "cat/loop")
    os.symlink("..", data / "dog/up")
    os.symlink("self.png", data / "self.png")
    os.symlink(outside, data / "link")
    os.symlink(outside / "far.png", data / "file.png")
    os.symlink("nowhere", data / "gone.png")
    images = open_images(data)
    assert images.names == [
        *("cat/a.png", "dog/b.png", "file.png", "gone.png", "link/far.png", "self.png")
    ]
    assert [name for name, _ in check(images)] == ["gone.png", "self.png"]


def test_one_channel_only_if_all_sampled_have_one(tmp_path):
    folder(tmp_path, "a.png", "b.png", shape=(4, 6))
    assert open_images(tmp_path).channels == 1
    assert open_images(tmp_path).read(0).shape == (1, 4, 6)
    picture(tmp_path / "c.png")
    assert open_images(tmp_path).channels == 3
    assert open_images(tmp_path).read(0).shape == (3, 4, 6)


def test_the_test_part_has_the_channels_of_the_train_part(tmp_path):
    folder(tmp_path, "train/a.png", "train/b.png")
    folder(tmp_path, "test/a.png", "test/b.png", shape=(4, 6))
    assert open_images(tmp_path, "test").channels == 3


def test_opening_reads_a_bounded_spread_of_headers(tmp_path, monkeypatch):
    asked = []

    def header(path):
        asked.append(int(path.stem))
        return (10, 20, 1) if len(asked) % 2 else (30, 20, 1)

    monkeypatch.setattr(module, "size", header)
    images = FolderImages(tmp_path, [f"{i}.png" for i in range(10_000)])
    assert len(asked) == module.SAMPLE
    assert asked == sorted(set(asked))
    assert max(asked) > 9_900
    assert (images.sides, images.channels) == (15, 1)


def test_the_median_side_ignores_broken_headers(tmp_path):
    picture(tmp_path / "a.png", shape=(10, 30, 3))
    picture(tmp_path / "b.png", shape=(40, 20, 3))
    picture(tmp_path / "c.png", shape=(90, 99, 3))
    broken(tmp_path / "d.png")
    assert open_images(tmp_path).sides == 20


def test_a_broken_image_is_replaced_by_the_next_good_one(tmp_path):
    folder(tmp_path, "0.png", "1.png", "2.png", "3.png", "4.png")
    for i in (1, 2, 4):
        broken(tmp_path / f"{i}.png")
    for _ in range(2):
        images = open_images(tmp_path)
        found, used, skipped = images.gather(torch.tensor([1, 0, 4]))
        assert used.tolist() == [3, 0, 0]
        assert [x[0, 0, 0].item() for x in found] == [3, 0, 0]
        assert [name for name, _ in skipped] == ["1.png", "2.png", "4.png"]
        assert all(reason.startswith("not an image") for _, reason in skipped)


def test_a_broken_image_is_remembered(tmp_path):
    folder(tmp_path, "a.png", "b.png")
    images = open_images(tmp_path)
    broken(tmp_path / "a.png")
    with pytest.raises(Broken, match=r"^not an image"):
        images.read(0)
    picture(tmp_path / "a.png")
    with pytest.raises(Broken, match=r"^not an image"):
        images.read(0)


def test_no_good_image_at_all(tmp_path):
    folder(tmp_path, "a.png", "b.png")
    images = open_images(tmp_path)
    for name in images.names:
        (tmp_path / name).write_bytes(b"")
    refused(lambda: images.gather(torch.tensor([1])), "none of the 2 files", "b.png: empty file")
    refused(lambda: open_images(tmp_path), "none of 2 files", "empty file")


def test_check_lists_what_is_broken(tmp_path):
    folder(tmp_path, "a.png", "b.png", "c.png")
    whole = (tmp_path / "b.png").read_bytes()
    (tmp_path / "b.png").write_bytes(whole[:50])
    os.mkfifo(tmp_path / "fifo.jpg")
    os.mkdir(tmp_path / "folder.jpg")
    with socket.socket(socket.AF_UNIX) as unix:
        here = os.getcwd()
        os.chdir(tmp_path)
        unix.bind("s.jpg")
        os.chdir(here)
        images = open_images(tmp_path)
        assert size(tmp_path / "b.png") == (4, 6, 3)  # its header is sound
        listed = dict(check(images))
    assert set(listed) == {"b.png", "fifo.jpg", "s.jpg"}
    assert listed["fifo.jpg"] == listed["s.jpg"] == "not a regular file"
    assert listed["b.png"].startswith("truncated PNG")


def test_fingerprints_of_folders(tmp_path):
    def print_of(name, *files):
        return open_images(folder(tmp_path / name, *files)).fingerprint()

    first = print_of("one", "a.png", "x/b.png")
    assert first == print_of("same", "a.png", "x/b.png")
    assert first != print_of("names", "a.png", "x/c.png")
    assert first != print_of("places", "a.png", "b.png")
    with open(tmp_path / "one/a.png", "ab") as file:
        file.write(b"1")
    longer = open_images(tmp_path / "one").fingerprint()
    assert first != longer
    content = (tmp_path / "one/x/b.png").read_bytes()
    (tmp_path / "one/x/b.png").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    images = open_images(tmp_path / "one")
    other = images.fingerprint()
    assert other not in (first, longer)  # as long as before, but another picture
    os.remove(tmp_path / "one/a.png")
    assert images.fingerprint() not in (first, longer, other)


def test_folders_that_cannot_serve(tmp_path):
    (tmp_path / "empty").mkdir()
    refused(lambda: open_images(tmp_path / "empty"), "holds no image files")
    refused(lambda: open_images(folder(tmp_path / "one", "a.png")), "1 image(s)", "at least 2")
    refused(lambda: open_images(tmp_path / "missing"), "there is no folder, file or data set")
    (tmp_path / "data.csv").write_text("1,2")
    refused(lambda: open_images(tmp_path / "data.csv"), "is not understood")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_folder_that_may_not_be_listed(tmp_path):
    folder(tmp_path, "a.png", "b.png", "locked/c.png")
    (tmp_path / "locked").chmod(0)
    refused(lambda: open_images(tmp_path), "locked", "permission")
    (tmp_path / "locked").chmod(0o700)


# Labels and parts of folders


def test_first_folders_are_classes(tmp_path):
    folder(tmp_path, "cat/a.png", "cat/deep/b.png", "bee/c.png")
    labels = open_labels(tmp_path, "train")
    assert labels.classes == ("bee", "cat")
    assert labels.values.dtype == torch.int64
    names = open_images(tmp_path).names
    assert [labels.classes[i] for i in labels.values] == [name.split("/")[0] for name in names]
    assert not has_part(tmp_path, "test")
    refused(lambda: open_images(tmp_path, "test"), "no test part")
    picture(tmp_path / "loose.png")
    assert open_labels(tmp_path, "train") is None


def test_one_folder_is_no_class(tmp_path):
    assert open_labels(folder(tmp_path, "all/a.png", "all/b.png"), "train") is None


@pytest.mark.parametrize("other", ["test", "val"])
def test_train_and_test_folders_are_parts(tmp_path, other):
    folder(
        tmp_path, "train/cat/a.png", "train/dog/b.png", f"{other}/dog/c.png", f"{other}/dog/d.png"
    )
    (tmp_path / "readme").mkdir()
    assert has_part(tmp_path, "test")
    assert open_images(tmp_path).names == ["train/cat/a.png", "train/dog/b.png"]
    assert open_images(tmp_path, "test").names == [f"{other}/dog/c.png", f"{other}/dog/d.png"]
    assert open_labels(tmp_path, "train").values.tolist() == [0, 1]
    test = open_labels(tmp_path, "test")
    assert test.values.tolist() == [1, 1]
    assert test.classes == ("cat", "dog")


def test_parts_without_classes_have_no_labels(tmp_path):
    folder(tmp_path, "train/a.png", "train/b.png", "test/c.png", "test/d.png")
    assert open_labels(tmp_path, "train") is None
    assert open_images(tmp_path, "test").names == ["test/c.png", "test/d.png"]


@pytest.mark.parametrize(
    ("train", "test"),
    [("Train", "Test"), ("training", "testing"), ("train", "valid"), ("TRAIN", "validation")],
)
def test_parts_go_by_other_names_too(tmp_path, train, test):
    folder(tmp_path, f"{train}/a.png", f"{train}/b.png", f"{test}/c.png", f"{test}/d.png")
    assert open_images(tmp_path).names == [f"{train}/a.png", f"{train}/b.png"]
    assert open_images(tmp_path, "test").names == [f"{test}/c.png", f"{test}/d.png"]


def test_of_three_parts_test_is_the_one_to_test_on(tmp_path):
    folder(tmp_path, *(f"{part}/{k}.png" for part in ("train", "valid", "test") for k in "ab"))
    assert open_images(tmp_path, "test").names == ["test/a.png", "test/b.png"]
    assert len(open_images(tmp_path)) == 2


@pytest.mark.parametrize("other", ["plane/b.png", "sample.png", "testing/b.png"])
def test_parts_do_not_become_classes_by_what_lies_beside_them(tmp_path, other):
    folder(tmp_path, "train/a.png", "train/b.png", other, "test/c.png")
    refused(lambda: open_images(tmp_path), "train/", "test/", "leave one folder of each part")


def test_a_train_may_be_a_class(tmp_path):
    folder(tmp_path, "train/a.png", "plane/b.png", "ship/c.png")
    assert open_labels(tmp_path, "train").classes == ("plane", "ship", "train")


@pytest.mark.parametrize("mark", ["run.json", "transfer.json"])
def test_pictures_of_a_run_are_no_data(tmp_path, mark):
    folder(tmp_path, "a.png", "b.png", "run/curves.png", "run/pictures/c.png")
    (tmp_path / "run" / mark).write_text("{}")
    assert open_images(tmp_path).names == ["a.png", "b.png"]


def test_colours_are_those_asked_for(tmp_path):
    shades = np.random.default_rng(0).integers(0, 256, (300, 2, 2, 3), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", x=shades)
    grey = open_images(tmp_path / "x.npz", channels=1)
    found = [np.asarray(Image.fromarray(one).convert("L")) for one in shades]
    assert np.array_equal(grey.x[:, 0].numpy(), np.stack(found))
    np.savez(tmp_path / "y.npz", x=shades[..., 0])
    colour = open_images(tmp_path / "y.npz", channels=3)
    assert torch.equal(colour.x, torch.from_numpy(shades[..., 0])[:, None].expand(-1, 3, -1, -1))
    picture(tmp_path / "in" / "a.png", shape=(4, 6))
    picture(tmp_path / "in" / "b.png", shape=(4, 6))
    assert open_images(tmp_path / "in").channels == 1
    assert open_images(tmp_path / "in", channels=3).read(0).shape == (3, 4, 6)


def test_classes_of_unsigned_and_signed_numbers_are_whole(tmp_path):
    x, y = np.zeros((4, 5, 6), dtype=np.uint8), np.array([0, 1, 2, 1])
    np.savez(tmp_path / "x.npz", x=x, x_test=x, y=y.astype(np.uint64), y_test=y)
    assert open_labels(tmp_path / "x.npz", "train").classes == ("0", "1", "2")


# A part of the images


def test_a_spread_of_arrays_keeps_their_names():
    x = torch.arange(10, dtype=torch.uint8)[:, None, None, None].expand(10, 1, 4, 4)
    part = ArrayImages(x, "ten").spread(4)
    assert part.x[:, 0, 0, 0].tolist() == [0, 2, 5, 7]
    assert tuple(part.names) == ("0", "2", "5", "7")
    assert part.name == "ten"


def test_a_spread_of_files_keeps_their_channels(tmp_path):
    folder(tmp_path, *(f"{i}.png" for i in range(9)), shape=(4, 6))
    picture(tmp_path / "1.png", 1)  # the only one in colour
    images = open_images(tmp_path)
    part = images.spread(3)
    assert list(part.names) == ["0.png", "3.png", "6.png"]
    assert part.channels == images.channels == 3
    found, used, skipped = part.gather(torch.tensor([2, 0]))
    assert [image[0, 0, 0].item() for image in found] == [6, 0]
    assert (used.tolist(), skipped) == ([2, 0], [])


def test_a_spread_of_all_is_all(tmp_path):
    folder(tmp_path, "a.png", "b.png")
    for images in (ArrayImages(torch.zeros(2, 1, 4, 4).byte(), "two"), open_images(tmp_path)):
        assert images.spread(2) is images
        assert images.spread(5) is images


# Arrays


def test_array_images():
    x = torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).view(2, 3, 4, 5)
    images = ArrayImages(x, "x")
    assert (len(images), images.channels, images.sides) == (2, 3, 4)
    assert list(images.names) == ["0", "1"]
    found, used, skipped = images.gather(torch.tensor([1, 1]))
    assert torch.equal(found, x[[1, 1]])
    assert (used.tolist(), skipped) == ([1, 1], [])
    assert torch.equal(images.read(1), x[1])
    assert check(images) == []
    other = x.clone()
    other[1, 2, 3, 4] += 1
    assert images.fingerprint() == ArrayImages(x.clone(), "y").fingerprint()
    assert images.fingerprint() != ArrayImages(other, "x").fingerprint()
    assert images.fingerprint() != ArrayImages(x.view(2, 3, 5, 4), "x").fingerprint()


def idx(path, array, *, magic=None):
    head = bytes(magic or (0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    data = head + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.mark.parametrize("ends", [".gz", ""])
def test_idx_folders(tmp_path, ends):
    rng = np.random.default_rng(0)
    x, t = (rng.integers(0, 256, (n, 5, 4), dtype=np.uint8) for n in (6, 2))
    y = np.array([7, 2, 7, 9, 2, 9], dtype=np.uint8)
    idx(tmp_path / f"train-images-idx3-ubyte{ends}", x)
    assert open_labels(tmp_path, "train") is None
    assert not has_part(tmp_path, "test")
    idx(tmp_path / f"train-labels-idx1-ubyte{ends}", y)
    idx(tmp_path / f"t10k-images-idx3-ubyte{ends}", t)
    idx(tmp_path / f"t10k-labels-idx1-ubyte{ends}", y[:2])
    assert has_part(tmp_path, "test")
    images = open_images(tmp_path)
    assert (images.channels, images.sides, images.name) == (1, 4, tmp_path.name)
    everything, _, _ = images.gather(torch.arange(6))
    assert torch.equal(everything, torch.from_numpy(x)[:, None])
    assert torch.equal(open_images(tmp_path, "test").read(1), torch.from_numpy(t)[1:2])
    assert open_labels(tmp_path, "train").values.tolist() == [1, 0, 1, 2, 0, 2]
    assert open_labels(tmp_path, "test") == (pytest.approx([1, 0]), ("2", "7", "9"))


def test_damaged_idx_files(tmp_path):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    x = np.random.default_rng(0).integers(0, 256, (6, 5, 4), dtype=np.uint8)
    idx(path, x)
    whole = path.read_bytes()
    for spoilt in (
        whole[:-20],
        b"\x1f\x8b" + bytes(40),
        b"<html>",
        whole[:40] + b"xx" + whole[42:],
    ):
        path.write_bytes(spoilt)
        refused(lambda: open_images(tmp_path), path.name, "fetch it again")
    idx(path, x, magic=(0, 0, 13, 3))
    refused(lambda: open_images(tmp_path), "not an IDX file")
    path.write_bytes(gzip.compress(gzip.decompress(whole)[:-1]))
    refused(lambda: open_images(tmp_path), "promises 120 bytes and holds 119")
    path.write_bytes(gzip.compress(b"\0\0"))
    refused(lambda: open_images(tmp_path), "not an IDX file")
    idx(path, x)
    idx(tmp_path / "train-labels-idx1-ubyte", np.zeros(5, dtype=np.uint8))
    assert len(open_images(tmp_path)) == 6
    refused(lambda: open_labels(tmp_path, "train"), "5 labels for 6 images")


def test_opening_images_does_not_read_labels(tmp_path):
    idx(tmp_path / "train-images-idx3-ubyte", np.zeros((2, 5, 4), dtype=np.uint8))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(b"garbage")
    assert len(open_images(tmp_path)) == 2
    path = tmp_path / "x.npz"
    np.savez(path, x=np.zeros((2, 4, 5), dtype=np.uint8), y=np.array([None, None]))
    assert len(open_images(path)) == 2
    refused(lambda: open_labels(path, "train"), "cannot be read")


@pytest.mark.parametrize("shape", [(5, 4, 6), (5, 4, 6, 1), (5, 4, 6, 3)])
def test_npz(tmp_path, shape):
    x = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    path = tmp_path / "pets.npz"
    np.savez(path, x=x)
    images = open_images(path)
    assert (len(images), images.sides, images.name) == (5, 4, "pets")
    assert images.channels == (shape[3] if len(shape) == 4 else 1)
    assert np.array_equal(images.read(3).permute(1, 2, 0).numpy().reshape(shape[1:]), x[3])
    assert open_labels(path, "train") is None
    assert not has_part(path, "test")

    np.savez_compressed(
        path, x=x, y=np.array(list("babcc")), x_test=x[:2], y_test=np.array(["c"] * 2)
    )
    assert open_labels(path, "train").classes == ("a", "b", "c")
    assert open_labels(path, "train").values.tolist() == [1, 0, 1, 2, 2]
    assert open_labels(path, "test").values.tolist() == [2, 2]
    assert len(open_images(path, "test")) == 2


class Canary:
    hatched = False

    def __reduce__(self):
        return setattr, (Canary, "hatched", True)


def test_npz_that_cannot_serve(tmp_path):
    path = tmp_path / "x.npz"
    x = np.zeros((4, 5, 6), dtype=np.uint8)

    def saved(*words, **arrays):
        np.savez(path, **arrays)
        refused(lambda: open_images(path), "x.npz", *words)

    saved("no array x", images=x)
    saved("float32", "uint8 (N, H, W)", x=x.astype(np.float32))
    saved("(4, 5)", x=x[:, :, 0])
    saved("(4, 5, 6, 2)", x=np.zeros((4, 5, 6, 2), dtype=np.uint8))
    saved("(4, 0, 6)", x=x[:, :0])
    saved("1 image", x=x[:1])
    saved("without objects", x=np.array([Canary()], dtype=object))
    with open(path, "wb") as file:
        pickle.dump(Canary(), file)
    refused(lambda: open_images(path), "x.npz", "cannot be read")
    for data in (b"", b"PK\x03\x04" + bytes(60), b"hello"):
        path.write_bytes(data)
        refused(lambda: open_images(path), "x.npz", "cannot be read")
    with open(path, "wb") as file:
        np.save(file, x)
    refused(lambda: open_images(path), "x.npz", "cannot be read")
    np.savez(path, x=np.random.default_rng(0).integers(0, 256, (9, 9, 9), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:500])
    refused(lambda: open_images(path), "x.npz", "cannot be read")
    assert not Canary.hatched


@pytest.mark.parametrize("y", [np.zeros(3, dtype=int), np.zeros(4), np.zeros((4, 1), dtype=int)])
def test_labels_that_do_not_fit(tmp_path, y):
    np.savez(tmp_path / "x.npz", x=np.zeros((4, 5, 6), dtype=np.uint8), y=y)
    refused(lambda: open_labels(tmp_path / "x.npz", "train"), "one integer or text an image")


# Names


def test_digits():
    images, labels = open_images("digits"), open_labels("digits", "train")
    assert (len(images), images.channels, images.sides) == (1797, 1, 8)
    x, _, _ = images.gather(torch.arange(1797))
    assert (x.min(), x.max()) == (0, 255)
    assert len(x.unique()) == 17
    assert labels.classes == tuple("0123456789")
    assert labels.values[:10].tolist() == list(range(10))
    refused(lambda: open_images("digits", "test"), "digits has no test part")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("digit", "digits"), ("CIFAR10", "cifar10"), ("cifar-100", "cifar100"), ("MNITS", "mnist")],
)
def test_a_misspelt_name(typed, meant):
    refused(lambda: open_images(typed), f"did you mean {meant}?")


def test_a_name_like_no_other():
    refused(lambda: open_images("zebra crossing"), "known names are digits, cifar10")


@pytest.mark.parametrize(
    ("name", "kind", "shape", "expected"),
    [
        ("cifar10", "CIFAR10", (4, 8, 9, 3), (3, 8, 9)),
        ("mnist", "MNIST", (4, 8, 9), (1, 8, 9)),
        ("svhn", "SVHN", (4, 3, 8, 9), (3, 8, 9)),
        ("stl10", "STL10", (4, 3, 8, 9), (3, 8, 9)),
    ],
)
def test_torchvision_names(tmp_path, monkeypatch, name, kind, shape, expected):
    from torchvision import datasets

    x = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    asked = []

    def loaded(**options):
        asked.append(options)
        return types.SimpleNamespace(data=x, targets=[3, 1, 1, 2], labels=np.array([3, 1, 1, 2]))

    monkeypatch.setattr(datasets, kind, loaded)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    images = open_images(name, "test")
    assert images.read(1).shape == expected
    channels_last = images.read(1).permute(1, 2, 0).numpy()
    assert np.array_equal(images.read(1).numpy().reshape(x[1].shape), x[1]) or np.array_equal(
        channels_last, x[1]
    )
    assert open_labels(name, "test").values.tolist() == [2, 0, 0, 1]
    assert asked[0]["root"] == tmp_path / "selftaught" / name
    assert asked[0]["download"] is True
    assert asked[0].get("train") is False or asked[0].get("split") == "test"


def test_torchvision_without_a_network(tmp_path, monkeypatch):
    from torchvision import datasets

    def offline(**options):
        raise urllib.error.URLError("no route\nto host")

    monkeypatch.setattr(datasets, "CIFAR10", offline)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    refused(lambda: open_images("cifar10"), "cifar10", "no route", str(tmp_path), "network")


def test_the_unlabelled_part_of_stl10_has_no_labels(monkeypatch):
    from torchvision import datasets

    def loaded(split, **options):
        assert split == "unlabeled"
        return types.SimpleNamespace(data=np.zeros((3, 3, 4, 5), dtype=np.uint8))

    monkeypatch.setattr(datasets, "STL10", loaded)
    assert len(open_images("stl10-unlabeled")) == 3
    assert open_labels("stl10-unlabeled", "train") is None
    assert not has_part("stl10-unlabeled", "test")


@pytest.mark.skipif("SELFTAUGHT_DATA" not in os.environ, reason="SELFTAUGHT_DATA is not set")
def test_fashion_mnist():
    root = os.path.join(os.environ["SELFTAUGHT_DATA"], "fashion-mnist")
    images, labels = open_images(root, "test"), open_labels(root, "test")
    assert (len(images), images.channels, images.sides) == (10_000, 1, 28)
    assert labels.values.bincount().tolist() == [1000] * 10


def test_a_few_images_beside_class_folders_are_said(tmp_path):
    names = [f"{kind}/{number}.png" for kind in "ab" for number in range(10)]
    folder(tmp_path, *names, "stray.png")
    refused(lambda: open_labels(tmp_path, "train"), "1 images beside them", "stray.png", "classes")
    folder(tmp_path, *(f"{number}.png" for number in range(10)))
    assert open_labels(tmp_path, "train") is None  # a folder of photographs with others in it
