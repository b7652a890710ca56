"""Evaluation by images, not by features: random views, places, several labels."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

import selftaught
from commands.tiny import call, refused
from selftaught.commands.evaluate import evaluate
from selftaught.commands.probes import pooled


@pytest.fixture(scope="module")
def squares(tmp_path_factory):
    """Images of bright and dark parts, whose masks say which is which."""
    root, draw = tmp_path_factory.mktemp("squares"), np.random.default_rng(0)
    for part, count in (("train", 24), ("test", 8)):
        for name in ("images", "masks"):
            (root / part / name).mkdir(parents=True)
        for i in range(count):
            mask = np.kron(draw.integers(0, 2, (2, 2)), np.ones((4, 4))).astype(np.uint8)
            pixels = (40 + 150 * mask + draw.integers(0, 40, (8, 8))).astype(np.uint8)
            mask[0, 0] = 255
            Image.fromarray(pixels).save(root / part / "images" / f"{i}.png")
            Image.fromarray(mask).save(root / part / "masks" / f"{i}.png")
    return root


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """Images with two labels: whether the upper and whether the left half is bright."""
    draw = np.random.default_rng(0)
    y = draw.integers(0, 2, (90, 2))
    x = draw.integers(0, 60, (90, 8, 8))
    x[:, :4] += 100 * y[:, 0, None, None]
    x[:, :, :4] += 60 * y[:, 1, None, None]
    place = tmp_path_factory.mktemp("several") / "x.npz"
    x = x.astype(np.uint8)
    np.savez(place, x=x[:60], y=y[:60], x_test=x[60:], y_test=y[60:])
    return place


def test_heads_on_random_views(finished, few):
    found = evaluate(finished, few, protocols=["linear_sgd"])
    assert list(found["rows"]) == ["encoder", "random", "pixels"]
    assert found["rows"]["encoder"]["linear_sgd"] > 60  # chance is 33
    assert found["rows"]["pixels"]["linear_sgd"] > 60
    low, high = found["intervals"]["encoder"]["linear_sgd"]
    assert low <= found["rows"]["encoder"]["linear_sgd"] <= high
    assert (found["train"], found["test"]) == (60, 30)
    again = evaluate(finished, few, protocols=["linear_sgd"], rows=["encoder"])
    assert again["rows"]["encoder"] == found["rows"]["encoder"]


def test_poolings_of_places(finished):
    encoder = selftaught.load(finished)
    x = torch.randn(2, 1, 32, 32)
    found = pooled(encoder, x)
    assert {name: z.shape[1] for name, z in found.items()} == {"mean": 256, "max": 256, "2x2": 1024}
    torch.testing.assert_close(found["mean"], encoder(x))
    torch.testing.assert_close(found["2x2"].unflatten(1, (256, 4)).mean(2), found["mean"])
    assert list(pooled(encoder, x[..., :8, :8])) == ["mean", "max"]  # one place
    assert list(pooled(torch.nn.Flatten(), x)) == ["feature"]


def test_few_images_for_heads(capsys, finished, tmp_path):
    x = np.zeros((6, 8, 8), np.uint8)
    np.savez(tmp_path / "x.npz", x=x, y=np.arange(6), x_test=x, y_test=np.arange(6))
    words = ("evaluate", finished, "--data", tmp_path / "x.npz", "--protocols", "linear_sgd")
    refused(call(capsys, *words), "6 training labels of 6 classes", "one of them twice")


def test_segmentation_by_places(capsys, finished, squares):
    words = ("evaluate", finished, "--data", squares, "--protocols")
    found = json.loads(call(capsys, *words, "all", "--json").out)
    assert list(found["rows"]["encoder"]) == ["dense_knn"]
    assert (found["train"], found["test"]) == (24, 8)
    assert all(0 < row["dense_knn"] <= 100 for row in found["rows"].values())
    low, high = found["intervals"]["pixels"]["dense_knn"]
    assert low <= found["rows"]["pixels"]["dense_knn"] <= high
    refused(call(capsys, *words, "knn"), "knn/20 needs one label an image", "masks of the images")


def test_several_labels_an_image(capsys, finished, several):
    words = ("evaluate", finished, "--data", several, "--protocols")
    found = json.loads(call(capsys, *words, "all", "--json").out)
    assert list(found["rows"]["pixels"]) == ["svm/map", "svm/map11"]
    assert found["rows"]["pixels"]["svm/map"] > 95
    for row, of in found["rows"].items():
        for name, value in of.items():
            low, high = found["intervals"][row][name]
            assert low <= value <= high
    answer = call(capsys, *words, "svm")
    assert "svm/map11" in answer.out
    refused(call(capsys, *words, "logreg"), "logreg needs one label", "several labels", "svm")
    answer = call(capsys, "finetune", finished, several, "--out", several.parent / "no")
    refused(answer, "several labels an image, not one label an image")


def test_other_data_for_protocols_of_their_own(capsys, finished, few, several, tmp_path):
    words = ("evaluate", finished, "--data", few, "--protocols")
    refused(call(capsys, *words, "dense_knn"), "dense_knn needs masks", "one label an image")
    other = tmp_path / "x.npz"
    x, y = np.zeros((4, 8, 8), np.uint8), np.eye(4, dtype=int)[:, :3]
    np.savez(other, x=x, y=y)
    words = ("evaluate", finished, "--data", several, "--protocols", "svm", "--test")
    refused(call(capsys, *words, other), "has classes that", "(2)")
    np.savez(other, x=x, y=y[:, :2], classes=np.array(["1", "0"]))
    assert call(capsys, *words, other).code == 0
    refused(call(capsys, *words, few), "one label an image, not several labels an image")
