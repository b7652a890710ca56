import json

import pytest
import torch
from PIL import Image

from commands.tiny import call, photographs, recipe, refused, tree

COSTS = ("seconds_per_step", "samples_per_second", "seconds_per_epoch")


@pytest.fixture
def folder(tmp_path):
    """Twenty sound photographs and three files that are none."""
    root = photographs(tmp_path / "in", 20, depth=2)
    (root / "page.jpg").write_text("<html></html>")
    (root / "[red]empty.png").write_bytes(b"")
    Image.new("1", (20_000, 20_000)).save(root / "bomb.png")
    return root


def test_what_is_in_the_data_and_what_is_broken(capsys, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)
    answer = call(capsys, "doctor", folder, "--size", 16)
    assert answer.code == 0, answer.err
    assert "23 images, 3 channels" in answer.out
    assert "3 broken" in answer.out
    assert "page.jpg: not an image" in answer.out
    assert "[red]empty.png: empty file" in answer.out  # not taken for markup
    assert "bomb.png: larger than" in answer.out
    assert "s a step" in answer.out
    assert tree(tmp_path) == before  # nothing is written


def test_json(capsys, folder):
    answer = call(capsys, "doctor", folder, "--size", 16, "--json")
    found = json.loads(answer.out)
    assert (found["images"], found["channels"], found["size"]) == (23, 3, 16)
    assert found["classes"] is None
    assert sorted(name for name, _ in found["broken"]) == ["[red]empty.png", "bomb.png", "page.jpg"]
    assert all(found[name] > 0 for name in COSTS)
    assert found["batch_size"] == 16  # the largest power of two of them
    assert found["seconds_per_epoch"] == pytest.approx(found["seconds_per_step"])


def test_a_method_that_clusters_first(capsys, data):
    more = ("--method", "deepcluster", "--set", "clusters=4", "components=4", "optimizer=sgd")
    answer = call(capsys, "doctor", data, *more, "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["seconds_per_epoch"] > 0


def test_labels_are_counted_only(capsys, data):
    answer = call(capsys, "doctor", data)
    assert answer.code == 0
    assert "3 classes, for evaluation only" in answer.out
    assert "0 broken" in answer.out


def test_labels_that_cannot_be_used_are_said(capsys, tmp_path):
    for number in range(20):
        path = tmp_path / "in" / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), number).save(path)
    Image.new("L", (8, 8)).save(tmp_path / "in" / "stray.png")
    answer = call(capsys, "doctor", tmp_path / "in")
    assert answer.code == 0, answer.err
    assert "no labels that can be used" in answer.out
    assert "stray.png" in answer.out


@pytest.mark.parametrize("method", ["byol", "mae"])
def test_another_method_and_encoder(capsys, folder, method):
    words = ("doctor", folder, "--method", method, "--size", 16, "--encoder", "vit-nano")
    assert f"{method} with vit-nano, batch 16" in call(capsys, *words).out


def test_parameters_of_the_method(capsys, folder):
    words = ("doctor", folder, "--size", 16, "--set", "batch_size=4", "encoder=vit-nano")
    assert "simclr with vit-nano, batch 4," in call(capsys, *words).out


def test_a_recipe_of_ones_own(capsys, data, tmp_path, monkeypatch):
    name = recipe(tmp_path, monkeypatch, "own_doctor_recipe")
    answer = call(capsys, "doctor", data, "--method", name)
    assert answer.code == 0, answer.err
    assert "batch 16" in answer.out
    refused(call(capsys, "doctor", data, "--method", name, "--encoder", "x"), "parameter 'encoder'")


def test_the_callers_generator_is_left_alone(capsys, data):
    before = torch.get_rng_state()
    call(capsys, "doctor", data)
    assert torch.equal(torch.get_rng_state(), before)


def test_bad_input(capsys, data, tmp_path):
    refused(call(capsys, "doctor", tmp_path), "no image files")
    refused(call(capsys, "doctor", tmp_path / "gone"), "no folder, file or data set")
    refused(call(capsys, "doctor", photographs(tmp_path / "one", 1)), "at least 2")
    refused(call(capsys, "doctor", data, "--method", "simclear"), "did you mean 'simclr'?")
    refused(call(capsys, "doctor", data, "--encoder", "vit-nan"), "did you mean 'vit-nano'?")
    refused(call(capsys, "doctor", data, "--size", "2"), "too small")
    refused(call(capsys, "doctor", data, "--set", "batch_size=x"), "give a number")
    refused(call(capsys, "doctor", data, "--size", "-3"), "size")
    refused(call(capsys, "doctor", data, "--set", "lr=1e30", "batch_size=8"), "not finite")
