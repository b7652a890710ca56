"""What `pretrain --no-flip` means to the run and to all that begins with it."""

import json

import pytest

import selftaught
from commands.test_transfer import words as transferring
from commands.tiny import call, refused, training
from selftaught.commands import dense
from selftaught.methods.segmenter import Segmenter
from selftaught.views.crop import Crop

SHORT = ("--steps", 2, "--batch-size", 4, "--json")


@pytest.fixture(scope="module")
def upright(data, tmp_path_factory):
    """A run that no mirror image was seen in."""
    out = tmp_path_factory.mktemp("runs") / "upright"
    assert selftaught.cli.main(training("simclr", data, out, "--no-flip")) == 0
    return out


@pytest.fixture
def mirrored(monkeypatch):
    """How often the crops that are drawn from now on are mirrored."""
    found, draw = set(), Crop.draw

    def seen(self, generator, n):
        found.add(self.flip)
        return draw(self, generator, n)

    monkeypatch.setattr(Crop, "draw", seen)
    return found


def test_a_run_knows_it_and_goes_on_so(capsys, data, upright, finished, tmp_path, mirrored):
    assert selftaught.load(upright).pixels.flip is False
    assert selftaught.load(finished).pixels.flip is True
    out = tmp_path / "out"
    answer = call(capsys, *training("simclr", data, out, "--no-flip"))
    assert (answer.code, "never mirrored" in answer.out) == (0, True)
    assert json.loads((out / "run.json").read_text())["call"]["flip"] is False
    assert mirrored == {0.0}
    again = ("pretrain", "simclr", data, "--out", finished, "--resume", "--no-flip")
    refused(call(capsys, *again), "flip was True, not False")
    again = ("pretrain", "simclr", data, "--out", upright, "--resume", "--evaluate", "off")
    assert call(capsys, *again).code == 0


def test_methods_are_compared_so(capsys, data, tmp_path, mirrored):
    words = ("--methods", "simclr", "--steps", 2, "--set", "batch_size=16", "--no-flip", "--json")
    assert call(capsys, "compare", data, "--out", tmp_path / "out", *words).code == 0
    assert mirrored == {0.0}


def test_what_begins_with_the_run_mirrors_nothing(capsys, upright, few, tmp_path, mirrored):
    tuned, student = tmp_path / "tuned", ("--student", "resnet-pico")
    words = ("finetune", upright, few, "--out", tuned, "--labels", "4-per-class")
    assert call(capsys, *words, *SHORT).code == 0
    assert call(capsys, "distill", tuned, few, "--out", tmp_path / "s", *student, *SHORT).code == 0
    assert mirrored == {0.0}


def test_training_with_labels_can_do_without(capsys, finished, few, teacher, tmp_path, mirrored):
    words = ("finetune", finished, few, "--labels", "4-per-class", *SHORT)
    assert call(capsys, *words, "--out", tmp_path / "flipped").code == 0
    assert mirrored == {0.5}
    mirrored.clear()
    assert call(capsys, *words, "--out", tmp_path / "tuned", "--no-flip").code == 0
    words = ("distill", teacher, few, "--student", "resnet-pico", *SHORT)
    assert call(capsys, *words, "--out", tmp_path / "student", "--no-flip").code == 0
    assert mirrored == {0.0}


def test_so_can_masks_and_boxes(capsys, upright, finished, canvases, tmp_path, monkeypatch):
    shares = []

    def built(*arguments, **options):
        method = Segmenter(*arguments, **options)
        shares.append(method.flip)
        return method

    monkeypatch.setattr(dense, "Segmenter", built)
    for run, more in ((finished, ()), (finished, ("--no-flip",)), (upright, ())):
        out = tmp_path / f"{len(shares)}"
        words = transferring("segmentation", run, canvases, out, *more, steps=1)
        assert call(capsys, *words).code == 0
    assert shares == [0.5] * 2 + [0.0] * 4
